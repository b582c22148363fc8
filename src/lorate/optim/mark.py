"""A mark of the adapters that a saved state belongs to: beside others, their average would be wrong without a sign."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from lorate import sharding
from lorate.geometry import squared_norms
from lorate.optim.average import PolynomialAverage
from lorate.optim.layout import Layer, Slot, values

TOLERANCE = 1e-5
"""Of squared norms: other devices sum in another order, and an average differs by far more."""


def mark_of(slots: Sequence[Slot], layers: Sequence[Layer]) -> dict[str, Any] | None:
    """Squared norms of the parameters in the model, and the layers' s; None where each rank holds parts only."""
    if any(sharding.is_sharded(slot.parameter) for slot in slots):
        return None
    squares = squared_norms(values(slots), wide=True).tolist()
    return {"squares": squares, "scaling": [layer.scaling for layer in layers]}


def compare(average: PolynomialAverage | None, slots: Sequence[Slot], layers: Sequence[Layer]) -> None:
    """Warn once after a load, when the adapters are first used, if they are not those that the state was saved with.

    Not at the load itself, since the model may be loaded later.

    Args:
        average: as it was loaded, with the mark.
        slots: the optimizer's parameters.
        layers: the layers that the slots' roles refer to.
    """
    if average is None or average.mark is None:
        return
    was, average.mark = average.mark, None
    now = mark_of(slots, layers)
    if now is None:
        return
    others = [
        slot
        for slot, before, square in zip(slots, was["squares"], now["squares"], strict=True)
        if not math.isclose(before, square, rel_tol=max(TOLERANCE, torch.finfo(slot.parameter.dtype).eps))
    ]
    if others:
        role = others[0].role
        name = f"{role[1]} of {layers[role[0]].name}" if role else f"one of shape {list(others[0].parameter.shape)}"
        warnings.warn(
            f"{len(others)} of the {len(slots)} parameters in the model ({name}, say) are not those that the loaded "
            "optimizer state was saved with, and its average is not theirs: load the adapters of the same moment, and "
            "save both inside optimizer.averaged() or both outside",
            stacklevel=7,
        )
    for layer, before in zip(layers, was["scaling"], strict=True):
        if not math.isclose(before, layer.scaling):
            warnings.warn(
                f"the loaded optimizer state was saved with a scaling of {before:g} in {layer.name}, which is "
                f"{layer.scaling:g} here, so its step size does not fit: build the adapters with the same lora_alpha",
                stacklevel=7,
            )
            break
