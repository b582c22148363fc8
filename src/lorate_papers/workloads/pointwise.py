"""``pointwise``: EfficientNet-Lite0, trained on ImageNet, learns to see defects of solar cells.

LoRA adapts its pointwise convolutions, which hold most of its weights. The last layer is fitted to features of some
images first; batch normalisation stays in evaluation mode, and nothing is dropped out. The quick form takes digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate_papers.workloads.cache import cached_weights
from lorate_papers.workloads.efficientnet import FEATURES, efficientnet, network_input
from lorate_papers.workloads.head import fit_head
from lorate_papers.workloads.resnet import digit_images
from lorate_papers.workloads.solar import solar_cells
from lorate_papers.workloads.tensor_workload import TensorWorkload, examples, select
from lorate_papers.workloads.workload import Batch, refuse_others

TARGETS = ("_expand_conv", "_project_conv", "_conv_head")
SIZE, QUICK_SIZE = 64, 32
"""Height and width of the images."""
TRAIN, QUICK_TRAIN = 1600, 120
HELD_OUT, QUICK_HELD_OUT = 192, 32
PROBED, PENALTY = 256, 1.0
"""Training images that the last layer is fitted on, and the penalty, which keeps it from learning them by heart."""


@dataclass(frozen=True)
class ClassifierLoss:
    """Mean cross-entropy of a batch of ``pixels`` and ``labels``."""

    size: int  # height and width that the images are brought to

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over the batch."""
        return F.cross_entropy(model(network_input(batch["pixels"], self.size)), batch["labels"])


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    Args:
        quick: digits of 32 x 32 pixels instead of solar cells of 64 x 64.
        data: must be left out.
        model: must be left out.

    Raises:
        LorateError: data or model was given, or a package with the network or the images is not installed.
    """
    refuse_others("pointwise", data, model)
    size, count, held_out = (QUICK_SIZE, QUICK_TRAIN, QUICK_HELD_OUT) if quick else (SIZE, TRAIN, HELD_OUT)
    images: Mapping[str, Tensor] = digit_images(size, late=True) if quick else _cells(size)
    order = torch.randperm(examples(images), generator=torch.Generator().manual_seed(0))[: held_out + count]
    template = efficientnet()
    template._fc = nn.Linear(FEATURES, int(images["labels"].max()) + 1)
    workload = TensorWorkload(
        name="pointwise",
        template=template,
        targets=TARGETS,
        train=select(images, order[held_out:]),
        held_out=select(images, order[:held_out]),
        batch_loss=ClassifierLoss(size),
        chunk=64,
    )
    fit_head(workload, template._fc, count=PROBED, penalty=PENALTY)
    return workload


def _cells(size: int) -> Mapping[str, Tensor]:
    recipe = {"data": "elpv-dataset 1.0", "size": size}
    images = cached_weights("solar-cells-images", recipe, lambda: solar_cells(size))
    return {name: images[name] for name in ("pixels", "labels")}
