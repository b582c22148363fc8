"""Measure adapters and gradients: many norms on the device, one transfer to the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lorate import ranks
from lorate.errors import LorateError
from lorate.geometry import squared_norms, squared_spectral_norms
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.measurement import Array, Measurement
from lorate.optim.layout import Layer, Slot, blocks_by_layer, gradients, values


@dataclass(frozen=True)
class Reading:
    """A measurement, and what in it is not finite.

    Attributes:
        measurement: the lengths, as they are.
        fault: a sentence that names the first thing that is NaN or infinite; None if all is finite.
        faulty_weights: whether the fault sits in the adapters themselves, which skipping a step cannot repair.
        extras: the further numbers that were asked for, on the host.
    """

    measurement: Measurement
    fault: str | None
    faulty_weights: bool = False
    extras: Mapping[str, Array] = field(default_factory=dict)


def to_host(pieces: Mapping[str, Tensor], device: torch.device) -> dict[str, Array]:
    """Vectors by name as float64 arrays, with one synchronisation of the device.

    Over several ranks they are the means over the ranks, in one message. What is the same on all of them stays so, and
    what may differ (a loss; the last bit of a norm on another card) becomes the same: every rank decides alike.

    >>> to_host({"a": torch.ones(2), "b": torch.zeros(0)}, torch.device("cpu"))
    {'a': array([1., 1.]), 'b': array([], dtype=float64)}
    """
    packed = torch.cat([piece.to(device, torch.float64).reshape(-1) for piece in pieces.values()])
    numbers = ranks.mean(packed).cpu().numpy()
    ends = np.cumsum([piece.numel() for piece in pieces.values()])[:-1]
    return dict(zip(pieces, np.split(numbers, ends), strict=True))


def measure(
    slots: Sequence[Slot],
    layers: Sequence[Layer],
    loss: Tensor | float | None,
    weight_gradient: Mapping[str, Tensor] | None = None,
    *,
    spectral: bool = False,
    extras: Mapping[str, Tensor] | None = None,
    wide: bool = False,
) -> Reading:
    r"""Lengths of all factors and gradients, with one synchronisation of the device.

    Args:
        slots: the optimizer's parameters; a missing gradient counts as zero.
        layers: the layers that the slots' roles refer to.
        loss: training loss of the step on this rank, None if unknown.
        weight_gradient: ``"norm"``, $\|G_l\|_F$ of each layer, and perhaps ``"bound"``, an upper bound of
            $\|G_l\|_2$, if the rule asks for them.
        spectral: measure the spectral norms of the factors as well.
        extras: further vectors to bring to the host.
        wide: take the norms in float64; what is infinite in float32 is looked at again like that.

    Returns:
        The measurement in float64, and the first fault found.

    Raises:
        LorateError: the loss is not one number.
    """
    # 0 on a rank that knows none: it must not shift the others' mean
    try:
        number = torch.as_tensor(0.0 if loss is None else loss).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise LorateError(
            f"the loss of a step must be one number, got a {type(loss).__name__}; of a model's output take output.loss"
        ) from error
    if number.numel() != 1:
        raise LorateError(
            f"the loss of a step must be one number, got a tensor of shape {tuple(number.shape)}; take its mean"
        )
    factors = [slot for slot in slots if slot.role is not None]
    with_gradient = [slot for slot in slots if slot.gradient is not None]
    count = len(layers)
    pieces: dict[str, Tensor] = {
        "factors": squared_norms(values(factors), wide=wide),
        "gradients": squared_norms(gradients(with_gradient), wide=wide),
        "loss": number,
        "told": torch.full((), float(loss is not None), device=_device(slots)),
    }
    if spectral:
        A, B = blocks_by_layer(slots, values(slots), layers)
        pieces["spectral"] = squared_spectral_norms([*A, *B])
    pieces |= {f"weight {name}": value for name, value in (weight_gradient or {}).items()}
    host = to_host(pieces | {f"extra {name}": value for name, value in (extras or {}).items()}, _device(slots))
    if not wide and not (np.isfinite(host["factors"]).all() and np.isfinite(host["gradients"]).all()):
        # a square may be too large for float32 where the number is not
        return measure(slots, layers, loss, weight_gradient, spectral=spectral, extras=extras, wide=True)

    sides = {key: np.zeros(count) for key in ("A", "B", "gA", "gB")}
    for slot, value in zip(factors, host["factors"], strict=True):
        assert slot.role is not None
        sides[slot.role[1]][slot.role[0]] = value
    rest = 0.0
    for slot, value in zip(with_gradient, host["gradients"], strict=True):
        if slot.role is None:
            rest += float(value)
        else:
            sides["g" + slot.role[1]][slot.role[0]] = value
    norms, told = host.get("weight norm"), float(host["told"][0])
    measurement = Measurement(
        scaling=np.array([layer.scaling for layer in layers]),
        A_sq=sides["A"],
        B_sq=sides["B"],
        A_grad_sq=sides["gA"],
        B_grad_sq=sides["gB"],
        rest_grad_sq=rest,
        has_rest=len(factors) < len(slots),
        loss=float(host["loss"][0]) / told if told > 0 else None,
        weight_grad_sq=None if norms is None else norms**2,
        weight_grad_bound=host.get("weight bound"),
        A_spectral_sq=host["spectral"][:count] if spectral else None,
        B_spectral_sq=host["spectral"][count:] if spectral else None,
    )
    found = {name.removeprefix("extra "): value for name, value in host.items() if name.startswith("extra ")}
    if not np.isfinite(host["factors"]).all():
        name = _first_fault(measurement.A_sq + measurement.B_sq, layers)
        return Reading(measurement, f"the adapter weights of {name} are not finite", True, found)
    largest = torch.finfo(accumulation_dtype(slots[0].parameter.dtype)).max
    return Reading(measurement, _fault(measurement, layers, largest), extras=found)


def full_precision(slots: Sequence[Slot]) -> torch.autocast:
    """The caller may step inside an autocast region, which would round the Gram products."""
    return torch.autocast(_device(slots).type, enabled=False)


def _device(slots: Sequence[Slot]) -> torch.device:
    return slots[0].parameter.device


def _fault(m: Measurement, layers: Sequence[Layer], largest_square: float) -> str | None:
    if m.loss is not None and not np.isfinite(m.loss):
        return f"the loss is {m.loss}"
    gradient = m.A_grad_sq + m.B_grad_sq
    if not np.isfinite(gradient).all():
        faulty = int(np.sum(~np.isfinite(gradient)))
        return f"the gradient of {_first_fault(gradient, layers)} is not finite ({faulty} of {len(layers)} layers)"
    if not (gradient < largest_square).all():  # AdamW keeps squares, and a step of such a length ends in no good place
        layer = int(np.argmax(gradient))
        length = gradient[layer] ** 0.5
        return f"the gradient of {layers[layer].name} is {length:.2g} long, and its square overflows float32"
    if not np.isfinite(m.rest_grad_sq):
        return "the gradient of a trainable parameter beside LoRA is not finite"
    for numbers in (m.weight_grad_sq, m.weight_grad_bound):
        if numbers is not None and not np.isfinite(numbers).all():
            return f"the frozen weight's gradient at {_first_fault(numbers, layers)} is not finite"
    for numbers in (m.A_spectral_sq, m.B_spectral_sq):
        if numbers is not None and not np.isfinite(numbers).all():
            return f"the spectral norm of an adapter of {_first_fault(numbers, layers)} is not finite"
    return None


def _first_fault(values: Array, layers: Sequence[Layer]) -> str:
    return layers[int(np.argmin(np.isfinite(values)))].name
