"""Images in memory as bytes, and the loss of an image model on them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate_papers.workloads.tensor_workload import own_loss
from lorate_papers.workloads.workload import Batch


@dataclass(frozen=True)
class PixelLoss:
    """Cross-entropy of a transformers image classifier on a batch of ``pixels`` [N, channels, height, width], uint8."""

    mean: tuple[float, ...]  # of each channel, on the scale from 0 to 1; subtracted
    std: tuple[float, ...]  # of each channel; divided by
    size: int | None = None  # height and width that images are enlarged to for the model; None leaves them

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean over the batch."""
        pixels = batch["pixels"].float() / 255
        if self.size is not None:
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return own_loss(model, {"pixel_values": (pixels - mean) / std, "labels": batch["labels"]})


def pixels_of(images: Iterable[Any], size: int, channels: int) -> Tensor:
    """Pillow images as bytes of one size.

    Args:
        images: of any mode and size.
        size: height and width of the result.
        channels: 3 for colour, 1 for grey.

    Returns:
        Shape ``[images, channels, size, size]``, uint8.
    """
    mode = "RGB" if channels == 3 else "L"
    arrays = [np.asarray(image.convert(mode).resize((size, size))) for image in images]
    return (
        torch.from_numpy(np.stack(arrays)).reshape(len(arrays), size, size, channels).permute(0, 3, 1, 2).contiguous()
    )


class FrozenStatistics(nn.BatchNorm2d):
    """Batch normalisation that keeps its running statistics, in training mode too."""

    def train(self, mode: bool = True) -> "FrozenStatistics":
        """Stay in evaluation mode."""
        super().train(False)
        return self


def freeze_statistics(model: nn.Module) -> None:
    """Turn every batch normalisation of a model into one with frozen statistics, in place.

    Statistics of a batch would make the loss depend on the batch as a whole, and move the weights' loss under the
    optimizer's feet.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                frozen = FrozenStatistics(child.num_features, child.eps, child.momentum)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen.train())
