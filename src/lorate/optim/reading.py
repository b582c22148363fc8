"""All that one step reads from the device, for the rule and for the record."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lorate import ranks
from lorate.errors import LorateError
from lorate.optim.displacement import displacement_of
from lorate.optim.line import StepLine
from lorate.optim.measure import Reading, full_precision, measure, to_host
from lorate.optim.move import Move
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Rule


def read_step(
    rule: Rule, line: StepLine, move: Move | None, weight_gradient: WeightGradient | None, loss: Tensor | float | None
) -> Reading:
    """Measure what the rule needs; the line's look back is filled in.

    Args:
        rule: says what it needs.
        line: of this step.
        move: of the step before, whose end is here; None if there was none.
        weight_gradient: tells the frozen weights' gradient, if the rule needs it.
        loss: of this step on this rank, None if unknown.

    Returns:
        The measurement, with the displacement if it is needed, and the first fault.

    Raises:
        LorateError: the loss is not one number, the adapters hold non-finite values, or the frozen weights' gradient
            is not measured.
    """
    hooks = _averaged(rule, weight_gradient)
    with full_precision(line.slots):
        pieces = {} if move is None else move.pieces(line.slots)
        # a gradient that is not finite must not reach another optimizer's moments: look first
        at_once = "displacement" in rule.needs and not line.has_own_direction
        if at_once:
            pieces |= line.numbers(hooks)
        norms_of = None if "displacement" in rule.needs else hooks
        reading = _measure(rule, line, loss, pieces, norms_of)
        if reading.faulty_weights:
            raise LorateError(f"{reading.fault}; load the last good checkpoint")
        if reading.fault is None and "displacement" in rule.needs:
            numbers = reading.extras if at_once else to_host(line.numbers(hooks), line.slots[0].parameter.device)
            if not all(np.isfinite(values).all() for values in numbers.values()):
                return replace(reading, fault="the direction, or what it does to the weights, is not finite")
            m = reading.measurement
            unit = np.ones(len(m.scaling)) if line.has_own_direction else 1 / m.scaling
            displacement = displacement_of(numbers, line.slots, line.layers, unit)
            reading = replace(reading, measurement=replace(m, displacement=displacement))
    if line.last is not None and move is not None and reading.fault is None:
        line.last.read(reading.extras)
    return reading


def _averaged(rule: Rule, hooks: WeightGradient | None) -> WeightGradient | None:
    """Those that tell the frozen weights' gradient of the whole batch, if the rule asks for it; once a step."""
    if "weight-gradient" not in rule.needs:
        return None
    if hooks is None:
        raise LorateError(
            f"rule {rule.name!r} needs the frozen weights' gradient, which hooks on the model measure; build the "
            "optimizer with lorate.create_optimizer(model, ...)"
        )
    if ranks.world_size() > 1:
        hooks.average_over_ranks()
    return hooks


def _measure(
    rule: Rule, line: StepLine, loss: Tensor | float | None, pieces: Mapping[str, Tensor], hooks: WeightGradient | None
) -> Reading:
    """Measure with what the hooks tell of G, which may doubt its own rounding."""
    spectral = "spectral" in rule.needs
    gradient: dict[str, Tensor] = {}
    if hooks is not None:
        gradient = hooks.numbers(bounds=spectral and hooks.method == "exact")
        pieces = {**pieces, "doubt": gradient.pop("doubt", torch.zeros(0))}
    reading = measure(line.slots, line.layers, loss, gradient, spectral=spectral, extras=pieces)
    if hooks is not None and np.any(reading.extras["doubt"]):
        hooks.settle(reading.extras["doubt"].astype(bool).tolist())
        return _measure(rule, line, loss, pieces, hooks)
    return reading
