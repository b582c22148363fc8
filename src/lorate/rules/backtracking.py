"""The quartic's step with an L that the steps themselves measure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lorate.descent import required_smoothness
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.majorizer import Majorizer, terms_of_step
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.step_sizes import StepSizes
from lorate.smoothness import TrialSmoothness

MOST_TRIALS = 40
"""Refused trials after which a step is given up; each raises L by half at least."""


@dataclass
class Backtracking(Rule):
    r"""Monotone descent with nothing to choose: the majorizer's step, L raised where a trial refutes it.

    Each step lowers L to nine tenths, takes the step of `Majorizer` and keeps it if
    $J(V + \eta D) \le J(V) + \varphi(\eta)$ and the loss did not rise; else it raises L to what the trial shows is
    needed (by half at least) and tries again. The first L lets no layer move further than its adapters are long.
    $\langle G, Q\rangle$ is left to L, so the frozen weights' gradient is not needed.

    For a loss that is the same function at every evaluation (the whole data, no dropout); ``optimizer.step(closure)``
    evaluates it. Pass a new function for new data. The gradients of the accepted trial are those of the next step.

    Attributes:
        smoothness: the first L where the adapters set no scale for it; any positive number will do.
        per_layer: one step size per layer, or one for all.
        found: the L in force; None before the first step.

    Raises:
        LorateError: the first L is not a positive finite number.

    Source: docs/mathematics/smoothness.md, "From trial steps".
    """

    smoothness: float | None = 1.0
    per_layer: bool = True
    found: float | None = field(default=None, init=False)

    name = "backtracking"
    formula = "the majorizer's step, with an L that every step measures by trying"
    guarantee = "the loss never rises; no L to know"
    use_when = "full batch and a closure: fast, with nothing to know and nothing to tune"
    needs = frozenset({"displacement", "closure"})
    allows_direction = True

    def __post_init__(self) -> None:
        check_smoothness(self.name, self.smoothness)

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """The first step that holds, found by trying."""
        m = measurement
        assert line is not None and m.loss is not None and m.displacement is not None
        L = self._first_trial(m)
        for _ in range(MOST_TRIALS):
            sizes = Majorizer(L.value, self.per_layer).step_sizes(m)
            if sizes.refusal is not None:
                return sizes
            if line.overflow(m, sizes) is not None:
                L.accepts(math.inf)
                continue
            change = line.loss_at(sizes) - m.loss
            terms = terms_of_step(m, sizes, line.multiplier)
            if not L.accepts(float(required_smoothness(change, 1.0, *terms, line.loss_rounding))):
                continue
            self.found = L.value  # the lower L of the next step makes a longer one
            if change > 0:
                return replace(sizes, refusal="the loss no longer falls by more than its rounding")
            return sizes
        return StepSizes.none(len(m.scaling), "no step along the direction lowers the loss as its slope says")

    def proved_decrease(self, measurement: Measurement, sizes: StepSizes, multiplier: float) -> float | None:
        """That of the majorizer with the L in force."""
        return Majorizer(self._value, self.per_layer).proved_decrease(measurement, sizes, multiplier)

    def notes(self) -> dict[str, float | None]:
        """The L in force."""
        return {"smoothness": self._value}

    def state_dict(self) -> dict[str, Any]:
        """The L in force."""
        return {"found": self.found}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self.found = state["found"]

    @property
    def _value(self) -> float:
        assert self.smoothness is not None
        return self.smoothness if self.found is None else self.found

    def _first_trial(self, m: Measurement) -> TrialSmoothness:
        if self.found is None:
            return TrialSmoothness(first_smoothness(m) or self._value)
        L = TrialSmoothness(self.found)
        L.relax()
        return L


def first_smoothness(m: Measurement) -> float:
    r"""The L with which no layer's first step is longer than its adapters, $\eta\|D\| \le \|V\|$; 0 if none moves.

    To first order the step is $-\langle g, D\rangle / (L\|P\|^2)$. A longer one may lower the loss and still end where
    descent is slow, with one factor much larger than the other.
    """
    d = m.displacement
    assert d is not None
    V_sq = m.A_sq + m.B_sq
    moving = (d.slope < 0) & (d.pp > 0) & (V_sq > 0)
    ratio = np.sqrt((d.A_sq + d.B_sq)[moving] / V_sq[moving])
    return float(np.max(-d.slope[moving] / d.pp[moving] * ratio, initial=0.0))
