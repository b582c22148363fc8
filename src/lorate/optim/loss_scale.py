"""What a `torch.amp.GradScaler` leaves to optimizers that ask for its scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate.errors import LorateError


def divide_out(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> Tensor | None:
    """Divide the loss scale out of the gradients of a step that a GradScaler takes.

    An optimizer class with ``_step_supports_amp_scaling = True`` finds the scaler's ``grad_scale`` and ``found_inf``
    among its attributes during ``scaler.step(optimizer)``, and its step is called whether or not gradients are finite.

    Args:
        optimizer: the one whose step runs.
        gradients: all of its gradients; changed in place.

    Returns:
        The scale, a scalar on its device. None if no scaler takes the step, or if ``scaler.unscale_(optimizer)`` has
        divided it out already.

    Raises:
        LorateError: the gradients are float16.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None or not gradients:
        return None
    if any(gradient.dtype == torch.float16 for gradient in gradients):
        raise LorateError(
            "a GradScaler needs adapters in float32, as PEFT makes them by default, not in float16, in which the "
            "gradients of the loss itself may vanish"
        )
    torch._foreach_div_(list(gradients), scale.to(gradients[0].device))
    return scale


def was_hidden(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a scaler takes the step whose scale is not known, since ``scaler.unscale_(optimizer)`` came first."""
    return hasattr(optimizer, "found_inf") and getattr(optimizer, "grad_scale", None) is None


def forget(optimizer: torch.optim.Optimizer) -> None:
    """Take the scaler's attributes away after a step that failed, which the scaler leaves behind then."""
    for name in ("grad_scale", "found_inf"):
        vars(optimizer).pop(name, None)
