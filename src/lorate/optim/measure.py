"""Measure adapters and gradients: many norms on the device, one transfer to the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorate.geometry import squared_norms
from lorate.measurement import Measurement
from lorate.optim.layout import Layer, Slot


@dataclass(frozen=True)
class Measured:
    """A measurement, and what in it is not finite.

    Attributes:
        measurement: the lengths, as they are.
        fault: a sentence that names the first thing that is NaN or infinite; None if all is finite.
        faulty_weights: whether the fault sits in the adapters themselves, which no skipped step mends.
    """

    measurement: Measurement
    fault: str | None
    faulty_weights: bool = False


def measure(
    slots: Sequence[Slot],
    layers: Sequence[Layer],
    loss: Tensor | float | None,
    weight_gradient_norms: Tensor | None,
) -> Measured:
    r"""Lengths of all factors and gradients, with one synchronisation of the device.

    Args:
        slots: the optimizer's parameters; a missing gradient counts as zero.
        layers: the layers that the slots' roles refer to.
        loss: training loss of the step, None if unknown.
        weight_gradient_norms: $\|G_l\|_F$ of each layer, if the rule asks for them.

    Returns:
        The measurement in float64, and the first fault found.
    """
    factors = [slot for slot in slots if slot.role is not None]
    with_gradient = [slot for slot in slots if slot.parameter.grad is not None]
    device = slots[0].parameter.device
    pieces = [
        squared_norms([slot.parameter.detach() for slot in factors]),
        squared_norms([slot.parameter.grad for slot in with_gradient if slot.parameter.grad is not None]),
        torch.as_tensor([] if loss is None else loss).detach().reshape(-1),
        torch.zeros(0) if weight_gradient_norms is None else weight_gradient_norms.double().square(),
    ]
    packed = torch.cat([piece.to(device, torch.float64) for piece in pieces]).cpu().numpy()
    norms, gradients, losses, weight_gradients = np.split(packed, np.cumsum([len(p) for p in pieces])[:-1])

    sides = {key: np.zeros(len(layers)) for key in ("A", "B", "gA", "gB")}
    for slot, value in zip(factors, norms, strict=True):
        assert slot.role is not None
        sides[slot.role[1]][slot.role[0]] = value
    rest = 0.0
    for slot, value in zip(with_gradient, gradients, strict=True):
        if slot.role is None:
            rest += float(value)
        else:
            sides["g" + slot.role[1]][slot.role[0]] = value
    measurement = Measurement(
        scaling=np.array([layer.scaling for layer in layers]),
        A_sq=sides["A"],
        B_sq=sides["B"],
        A_grad_sq=sides["gA"],
        B_grad_sq=sides["gB"],
        rest_grad_sq=rest,
        has_rest=len(factors) < len(slots),
        loss=None if loss is None else float(losses[0]),
        weight_grad_sq=None if weight_gradient_norms is None else weight_gradients,
    )
    if not np.isfinite(norms).all():
        name = _first_fault(measurement.A_sq + measurement.B_sq, layers)
        return Measured(measurement, f"the adapter weights of {name} are not finite", faulty_weights=True)
    return Measured(measurement, _fault(measurement, layers))


def _fault(m: Measurement, layers: Sequence[Layer]) -> str | None:
    if m.loss is not None and not np.isfinite(m.loss):
        return f"the loss is {m.loss}"
    gradient = m.A_grad_sq + m.B_grad_sq
    if not np.isfinite(gradient).all():
        faulty = int(np.sum(~np.isfinite(gradient)))
        return f"the gradient of {_first_fault(gradient, layers)} is not finite ({faulty} of {len(layers)} layers)"
    if not np.isfinite(m.rest_grad_sq):
        return "the gradient of a trainable parameter beside LoRA is not finite"
    if m.weight_grad_sq is not None and not np.isfinite(m.weight_grad_sq).all():
        return f"the frozen weight's gradient at {_first_fault(m.weight_grad_sq, layers)} is not finite"
    return None


def _first_fault(values: np.ndarray, layers: Sequence[Layer]) -> str:
    return layers[int(np.argmin(np.isfinite(values)))].name
