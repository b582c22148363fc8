"""``resnet``: a residual network taken from one set of images to another, with LoRA on its convolutions.

It learns the digits 0 to 4 and is adapted to 5 to 9; or, with the data ``solar-cells``, it learns to see defects in
cells of one silicon crystal and is adapted to cells of many crystals, which look different. The full form has
ResNet-18's layers at half its width. Always the last layer is fitted to features of some new images first, and batch
normalisation keeps its statistics.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate.extras import require
from lorate_papers.workloads.cache import Weights, cached_weights, committed_weights
from lorate_papers.workloads.digits import digits
from lorate_papers.workloads.head import fit_head
from lorate_papers.workloads.images import PixelLoss, freeze_statistics
from lorate_papers.workloads.other_images import load_images
from lorate_papers.workloads.pretraining import Schedule, pretrain
from lorate_papers.workloads.solar import CLASSES, solar_cells
from lorate_papers.workloads.tensor_workload import TensorWorkload, examples, select
from lorate_papers.workloads.workload import Batch

TARGETS = ("convolution",)
SOLAR_CELLS = "solar-cells"
QUICK_FILE = Path(__file__).parent / "quick_weights" / "resnet.safetensors"


@dataclass(frozen=True)
class Net:
    """A network, its images and its pre-training."""

    widths: tuple[int, ...]  # channels of the stages; the first is the width of the first convolution too
    depths: tuple[int, ...]  # blocks of the stages
    classes: int  # of the last layer
    size: int  # height and width of the images
    loss: PixelLoss  # scales the images
    schedule: Schedule  # of the pre-training


DIGITS_LOSS = PixelLoss((0.305,), (0.322,))
DIGITS = Net((32, 64, 128, 256), (2, 2, 2, 2), 5, 32, DIGITS_LOSS, Schedule(steps=300, batch=32, lr=2e-3))
QUICK = Net((8, 16, 32), (1, 1, 1), 5, 16, DIGITS_LOSS, Schedule(steps=300, batch=32, lr=1e-2))
SOLAR = Net(
    (32, 64, 128, 256), (2, 2, 2, 2), CLASSES, 48, PixelLoss((0.6,), (0.155,)), Schedule(steps=500, batch=32, lr=2e-3)
)


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    Args:
        quick: the tiny network on digits, whose weights come with the package; otherwise the network is pre-trained
            on the first call, which takes a minute or two, and kept in the cache.
        data: ``solar-cells``; or, with a model, ``cifar10`` or images in any form that ``lorate train`` reads.
        model: hub id or directory of an image classifier, such as ``microsoft/resnet-18``.

    Raises:
        LorateError: other data without a model, or a model without data; they cannot be read; a package is missing.
    """
    if model is not None or data not in (None, SOLAR_CELLS):
        return load_images(data, model, held_out=64 if quick else 256)
    if data == SOLAR_CELLS:
        cells = _cells()
        weights = _cached(SOLAR_CELLS, SOLAR, _part(cells, cells["mono"]))
        return _adapted_to(_part(cells, ~cells["mono"]), SOLAR, weights, held_out=300, probed=256)
    net = QUICK if quick else DIGITS
    weights = committed_weights(QUICK_FILE) if quick else _cached("digits", net, digit_images(net.size, late=False))
    return _adapted_to(digit_images(net.size, late=True), net, weights, held_out=128, probed=128)


def _cached(data: str, net: Net, images: Batch) -> Weights:
    recipe = {"data": data, **asdict(net)}
    return cached_weights(f"resnet-{data}", recipe, lambda: trained(net, images))


def _adapted_to(images: Batch, net: Net, weights: Weights, *, held_out: int, probed: int) -> TensorWorkload:
    template = build(net)
    template.load_state_dict(weights)
    freeze_statistics(template)
    order = torch.randperm(examples(images), generator=torch.Generator().manual_seed(0))
    train, rest = select(images, order[held_out:]), select(images, order[:held_out])
    workload = TensorWorkload("resnet", template, TARGETS, train, rest, net.loss, chunk=128)
    classifier: Any = template.classifier
    fit_head(workload, classifier[-1], count=probed)
    return workload


def build(net: Net) -> nn.Module:
    """The network at its random start."""
    transformers = require("transformers", extra="hf")
    config = transformers.ResNetConfig(
        num_channels=1,
        embedding_size=net.widths[0],
        hidden_sizes=list(net.widths),
        depths=list(net.depths),
        layer_type="basic",
        num_labels=net.classes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(net.schedule.seed)
        model: nn.Module = transformers.ResNetForImageClassification(config)
    return model


def trained(net: Net, images: Batch) -> Weights:
    """The weights after pre-training."""
    model = build(net)
    source = TensorWorkload("pre-training", model, TARGETS, images, images, net.loss)
    batches = source.batches(net.schedule.batch, net.schedule.seed)
    pretrain(model, batches, net.schedule, "Pre-training the residual network, once", net.loss)
    return {name: values.detach().contiguous() for name, values in model.state_dict().items()}


def digit_images(size: int, *, late: bool) -> dict[str, Tensor]:
    """The digits 0 to 4, or 5 to 9 as classes 0 to 4, enlarged from 8 x 8 to grey images of this height and width."""
    pixels, labels = digits()
    chosen = (labels >= 5) == late
    images = F.interpolate(pixels[chosen].reshape(-1, 1, 8, 8), size=(size, size), mode="bilinear")
    return {"pixels": (255 * images).round().to(torch.uint8), "labels": labels[chosen] % 5}


def _cells() -> Mapping[str, Tensor]:
    recipe = {"data": "elpv-dataset 1.0", "size": SOLAR.size}
    return cached_weights(f"{SOLAR_CELLS}-images", recipe, lambda: solar_cells(SOLAR.size))


def _part(cells: Mapping[str, Tensor], chosen: Tensor) -> Batch:
    return {name: cells[name][chosen] for name in ("pixels", "labels")}
