"""Any image classifier on any labelled images: the original experiments, for machines with the internet."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorate.errors import LorateError
from lorate.tasks import load_data, load_model
from lorate_papers.workloads.cifar10 import CIFAR10, Images, cifar10_from_folder, cifar10_from_hub
from lorate_papers.workloads.head import fit_head
from lorate_papers.workloads.images import PixelLoss, freeze_statistics, pixels_of
from lorate_papers.workloads.tensor_workload import TensorWorkload

PROBED = 512
"""Training images that the new last layer is fitted on."""


def load_images(data: str | None, model: str | None, *, held_out: int) -> TensorWorkload:
    """The workload ``resnet`` on other data with another model.

    The last layer is fitted to the frozen features of the first 512 training images, so that LoRA on the convolutions
    is all that is left to train.

    Args:
        data: ``cifar10``, a folder with CIFAR-10's binary files, or what ``lorate train`` reads.
        model: hub id or directory of an image classifier.
        held_out: images of the held-out set, at most.

    Raises:
        LorateError: one of the two is missing or cannot be read.
    """
    if data is None or model is None:
        raise LorateError(
            "Other images need another model, and the other way round: give both, such as "
            "--data cifar10 --model microsoft/resnet-18."
        )
    images = _images(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the new last layer, before it is fitted
        loaded = load_model(model, "image-classification", labels=list(images.labels))
    freeze_statistics(loaded.model)
    processor = loaded.processor
    workload = TensorWorkload(
        name="resnet",
        template=loaded.model,
        targets=tuple(loaded.suggested_targets),
        train=images.train,
        held_out={name: values[:held_out] for name, values in images.held_out.items()},
        batch_loss=PixelLoss(tuple(processor.image_mean), tuple(processor.image_std), _edge(processor)),
    )
    fit_head(workload, last_linear(loaded.model, loaded.head), count=PROBED)
    return workload


def last_linear(model: nn.Module, head: list[str]) -> nn.Linear:
    """The layer that gives the scores.

    Raises:
        LorateError: the head of the model ends in no linear layer with a bias.
    """
    linear = [
        module
        for name in head
        for module in model.get_submodule(name).modules()
        if isinstance(module, nn.Linear) and module.bias is not None
    ]
    if not linear:
        raise LorateError("The model's last layer is not linear, so it cannot be fitted to new classes.")
    return linear[-1]


def _images(data: str) -> Images:
    if data == CIFAR10:
        return cifar10_from_hub()
    if (Path(data) / "test_batch.bin").is_file():
        return cifar10_from_folder(Path(data))
    found = load_data(data, kind="image-classification")
    parts = [
        {"pixels": pixels_of((row["image"] for row in part), 224, 3), "labels": torch.tensor(part["label"])}
        for part in (found.train, found.eval)
    ]
    return Images(parts[0], parts[1], tuple(found.labels or ()))


def _edge(processor: Any) -> int:
    """Height and width that the model was trained with."""
    size = dict(processor.size)
    return int(size.get("shortest_edge") or size["height"])
