"""What a `torch.amp.GradScaler` leaves to optimizers that ask for its scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate import sharding
from lorate.errors import LorateError
from lorate.optim.layout import Slot
from lorate.optim.weight_gradient import WeightGradient


def divide_out(
    optimizer: torch.optim.Optimizer, rule: str, slots: Sequence[Slot], hooks: WeightGradient | None
) -> None:
    """Divide the loss scale out of whatever a step reads that a GradScaler takes.

    An optimizer class with ``_step_supports_amp_scaling = True`` finds the scaler's ``grad_scale`` and ``found_inf``
    among its attributes during ``scaler.step(optimizer)``, and its step is called whether or not gradients are finite.
    After ``scaler.unscale_(optimizer)`` the scale is gone from the gradients, and from there.

    Args:
        optimizer: the one whose step runs.
        rule: name of its rule.
        slots: its parameters, whose gradients are changed in place.
        hooks: what tells the frozen weights' gradient; it is given the scale.

    Raises:
        LorateError: the gradients are float16, or the scale of the frozen weights' gradient is not known any more.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    gradients = sharding.local(slot.gradient for slot in slots if slot.gradient is not None)
    if scale is not None and gradients:
        if any(gradient.dtype == torch.float16 for gradient in gradients):
            raise LorateError(
                "a GradScaler needs adapters in float32, as PEFT makes them by default, not in float16, in which the "
                "gradients of the loss itself may vanish"
            )
        torch._foreach_div_(gradients, scale.to(gradients[0].device))
    if hooks is None:
        return
    if hasattr(optimizer, "found_inf") and scale is None:
        raise LorateError(
            f"rule {rule!r} measures the frozen weights' gradient, which scaler.unscale_(optimizer) leaves scaled: do "
            "not call it, scaler.step(optimizer) takes the scale out of everything"
        )
    hooks.loss_scale = 1.0 if scale is None else scale


def forget(optimizer: torch.optim.Optimizer) -> None:
    """Take the scaler's attributes away after a step that failed, which the scaler leaves behind then."""
    for name in ("grad_scale", "found_inf"):
        vars(optimizer).pop(name, None)
