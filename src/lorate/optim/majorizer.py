"""Steps along any direction, as long as the quartic bound of the loss says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from lorate.descent import majorizer_change
from lorate.measurement import Array, Measurement
from lorate.optim.directed import LoraDirected
from lorate.optim.direction import DirectionFactory
from lorate.optim.displacement import displacement_numbers, displacement_of
from lorate.optim.gradient_descent import full_precision
from lorate.optim.layout import Layer, Slot
from lorate.optim.measure import Measured, measure, to_host
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Majorizer, StepSizes
from lorate.rules.majorizer import terms_of_step


class LoraMajorizer(LoraDirected):
    r"""Moves all factors along a direction D by the step that makes the quartic bound of the loss smallest.

    $$ A_l \leftarrow A_l + lr\,\eta_l\,D_{A,l}, \qquad B_l \leftarrow B_l + lr\,\eta_l\,D_{B,l} $$

    D is minus the gradient or what another torch optimizer would add, whose own ``lr`` then only sets the unit of
    $\eta$. A group's ``lr`` relative to that of the first group that moves stretches its part of D before $\eta$ is
    found.

    Where D does not descend, or does not move the weights, the step is not taken, counted as skipped and explained.

    Args:
        groups: as for `LoraGradientDescent`, like ``layers``, ``lr`` and ``weight_gradient``.
        layers: description of each LoRA layer.
        rule: the rule.
        lr: multiplies the step; 1 by default.
        weight_gradient: tells $\langle G, Q\rangle$; needed unless the rule leaves it to L.
        direction: builds the torch optimizer whose direction is taken; minus the gradient if not given.

    Source: docs/mathematics/majorizer.md, Theorem 1.
    """

    rule: Majorizer

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Majorizer,
        lr: float | None = None,
        weight_gradient: WeightGradient | None = None,
        direction: DirectionFactory | None = None,
    ) -> None:
        super().__init__(groups, layers, rule, lr, weight_gradient, direction)

    def _measure(self, current: Sequence[Slot], loss: Tensor | float | None) -> Measured:
        hooks = self._averaged_hooks() if "weight-gradient" in self.rule.needs else None
        with full_precision(current):
            if self.direction is None:
                self._directions = self._downhill(current)
                numbers = displacement_numbers(current, self._directions, self.layers, hooks)
                measured = measure(current, self.layers, loss, extras=numbers)
            else:
                # a gradient that is not finite must not reach the optimizer's moments: look first
                measured = measure(current, self.layers, loss)
                if measured.fault is not None:
                    return measured
                self._directions = self._downhill(current)
                numbers = displacement_numbers(current, self._directions, self.layers, hooks)
                measured = replace(measured, extras=to_host(numbers, current[0].parameter.device))
        if measured.fault is None and not all(np.isfinite(values).all() for values in measured.extras.values()):
            return replace(measured, fault="the direction, or what it does to the weights, is not finite")
        unit = np.ones(len(self.layers)) if self.direction is not None else 1 / measured.measurement.scaling
        displacement = displacement_of(measured.extras, current, self.layers, unit)
        return replace(measured, measurement=replace(measured.measurement, displacement=displacement))

    def _choose(self, current: Sequence[Slot], measured: Measured) -> tuple[StepSizes, str | None]:
        sizes, skipped = super()._choose(current, measured)
        return sizes, skipped or no_descent(measured.measurement, sizes)

    def _forget(self) -> None:
        super()._forget()
        self._directions = []

    def _direction_sq(self, m: Measurement) -> tuple[Mapping[str, Array], float]:
        assert m.displacement is not None
        return {"A": m.displacement.A_sq, "B": m.displacement.B_sq}, m.displacement.rest_sq

    def _guarantee(self, m: Measurement, sizes: StepSizes) -> float | None:
        """The bound holds for any step, so it is evaluated at the one that is taken; none is claimed above lr = 1."""
        if m.displacement is None or not self._certifies or self._multiplier > 1:
            return None
        terms = terms_of_step(m, sizes, self._multiplier)
        return -float(majorizer_change(1.0, *terms, self._smoothness))

    @property
    def _smoothness(self) -> float:
        assert self.rule.smoothness is not None
        return self.rule.smoothness


def no_descent(m: Measurement, sizes: StepSizes) -> str | None:
    """Why no step size is positive, if so."""
    if np.any(sizes.layers > 0) or sizes.rest > 0:
        return None
    assert m.displacement is not None
    slope = float(np.sum(m.displacement.slope * m.displacement.unit)) + m.displacement.rest_slope
    if slope < 0:
        return "the direction does not move the weights (P = Q = 0)"
    return f"the direction does not descend: its slope ⟨g, D⟩ = {slope:.3g} is not negative"
