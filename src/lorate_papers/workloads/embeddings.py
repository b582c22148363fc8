"""``embeddings``: multinomial logistic regression on what EfficientNet-Lite0, trained on ImageNet, makes of images.

Solar cells in four classes; the quick form takes digits in ten, which need no further data.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lorate_papers.workloads.cache import cached_weights
from lorate_papers.workloads.efficientnet import embeddings
from lorate_papers.workloads.images import pixels_of
from lorate_papers.workloads.logistic import regression
from lorate_papers.workloads.resnet import digit_images
from lorate_papers.workloads.solar import cells
from lorate_papers.workloads.tensor_workload import TensorWorkload
from lorate_papers.workloads.workload import refuse_others

SIZE = 224
"""Height and width that the network was trained with."""
QUICK_SIZE, QUICK_IMAGES = 64, 150
EVERY = 2
"""Of the 2,624 cells every second one is taken."""
HELD_OUT = 0.2
AT_ONCE = 32
"""Images in memory at once."""


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload; the embeddings are computed on the first call, which takes a few minutes, and kept in the cache.

    Args:
        quick: 300 digits of 64 x 64 pixels instead of 1,312 solar cells of 224 x 224; some seconds.
        data: must be left out.
        model: must be left out.

    Raises:
        LorateError: data or model was given, or a package with the network or the images is not installed.
    """
    refuse_others("embeddings", data, model)
    found = _digits() if quick else _solar_cells()
    order = torch.randperm(len(found["labels"]), generator=torch.Generator().manual_seed(0))
    return regression("embeddings", found["inputs"][order], found["labels"][order], HELD_OUT)


def _solar_cells() -> dict[str, Tensor]:
    listed = cells()[::EVERY]

    def parts() -> Iterator[Tensor]:
        from PIL import Image

        for first in range(0, len(listed), AT_ONCE):
            yield pixels_of((Image.open(cell.file) for cell in listed[first : first + AT_ONCE]), SIZE, 1)

    def make() -> dict[str, Tensor]:
        return {"inputs": embeddings(parts(), SIZE), "labels": torch.tensor([cell.label for cell in listed])}

    recipe = {"network": "efficientnet-lite0", "data": "elpv-dataset 1.0", "size": SIZE, "every": EVERY}
    return cached_weights("embeddings-solar-cells", recipe, make)


def _digits() -> dict[str, Tensor]:
    def make() -> dict[str, Tensor]:
        images = [digit_images(QUICK_SIZE, late=late) for late in (False, True)]
        pixels = torch.cat([part["pixels"][:QUICK_IMAGES] for part in images])
        labels = torch.cat([part["labels"][:QUICK_IMAGES] + 5 * late for late, part in enumerate(images)])
        return {"inputs": embeddings(torch.split(pixels, AT_ONCE), QUICK_SIZE), "labels": labels}

    recipe = {"network": "efficientnet-lite0", "data": "digits", "size": QUICK_SIZE, "each": QUICK_IMAGES}
    return cached_weights("embeddings-digits", recipe, make)
