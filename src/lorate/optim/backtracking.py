"""Monotone descent: try the quartic's step, and learn L where the loss refutes it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.descent import required_smoothness
from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.optim.directed import returned
from lorate.optim.direction import DirectionFactory
from lorate.optim.layout import Layer, Slot, slots
from lorate.optim.majorizer import LoraMajorizer, no_descent
from lorate.rules import Backtracking, StepSizes
from lorate.rules.majorizer import terms_of_step
from lorate.smoothness import TrialSmoothness

MOST_TRIALS = 40
"""Refused trials after which a step is given up; each raises L by half at least."""

ROUNDING_UNITS = 4.0
"""How many units in the last place of the loss a change of it may be off by."""

Closure = Callable[[], Tensor]


class LoraBacktracking(LoraMajorizer):
    r"""Majorizer steps with an L of their own; the loss never rises.

    Each ``step(closure)`` lowers L to nine tenths, moves as `LoraMajorizer` does, evaluates the closure, and keeps the
    step if $J(V + \eta D) \le J(V) + \varphi(\eta)$ and the loss did not rise. Else it restores the parameters bit
    for bit, raises L to what the trial shows is needed (by half at least), and tries again. The first L lets no layer
    move further than its adapters are long. L is ``smoothness`` in the param groups, and so in the state dict.

    The closure must compute the same function every time: the whole data, no dropout. The accepted trial leaves its
    gradients in place, and a next call with the same closure starts from them without evaluating anew; parameters or
    gradients that were changed in between are noticed. Pass a new function for new data.

    Args:
        groups: as for `LoraMajorizer`, like all others.
        layers: description of each LoRA layer.
        rule: the rule; its ``smoothness`` is the first L where the adapters set no scale.
        lr: multiplies the step; 1 by default.
        direction: builds the torch optimizer whose direction is taken; minus the gradient if not given.

    Source: docs/mathematics/smoothness.md, "From trial steps".
    """

    rule: Backtracking

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Backtracking,
        lr: float | None = None,
        direction: DirectionFactory | None = None,
    ) -> None:
        super().__init__(groups, layers, rule, lr, None, direction)
        for group in self.param_groups:
            group["smoothness"] = None
        self._known: _Known | None = None

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Closure | None = None, *, loss: Tensor | float | None = None
    ) -> Tensor:
        """Take one step.

        Args:
            closure: clears the gradients, evaluates the loss and its gradients, and returns the loss.
            loss: not used; the closure tells it.

        Returns:
            The loss before the step.

        Raises:
            LorateError: no closure was given, it returned nothing, or the adapters hold non-finite values. If the
                closure raises, the parameters are restored.
        """
        if closure is None:
            raise LorateError(
                "rule 'backtracking' tries steps and needs a closure: optimizer.step(closure), where closure() clears "
                "the gradients, evaluates the loss, calls backward and returns the loss; without one use 'majorizer'"
            )
        current = slots(self.param_groups)
        evaluations = 0
        if self._known is None or not self._known.still_holds(closure, current):
            self._known = _Known(closure, current, self._evaluate(closure))
            evaluations = 1
        before = self._known.loss
        try:
            measured = self._checked(self._measure(current, before))
            m, sizes, skipped = measured.measurement, self._no_step(), measured.fault
            if skipped is None:
                smoothness = self._relaxed(m)
                sizes, skipped, trials = self._search(current, m, closure, smoothness)
                evaluations += trials
        finally:
            self._forget()
        self._note(m, sizes, skipped, evaluations=evaluations, smoothness=self._smoothness)
        return before

    def _evaluate(self, closure: Closure) -> Tensor:
        """The loss of the whole batch, so that every rank accepts the same trial."""
        loss = returned(super()._evaluate(closure))
        return ranks.mean(loss).to(loss.dtype) if ranks.world_size() > 1 else loss

    def _relaxed(self, m: Measurement) -> TrialSmoothness:
        """The L to try first in this step."""
        if self.param_groups[0]["smoothness"] is None:
            return TrialSmoothness(_first_smoothness(m) or self._smoothness)
        smoothness = TrialSmoothness(self._smoothness)
        smoothness.relax()
        return smoothness

    def _search(
        self, current: Sequence[Slot], m: Measurement, closure: Closure, smoothness: TrialSmoothness
    ) -> tuple[StepSizes, str | None, int]:
        """Move by the first step that is accepted: its sizes, why there is none if so, and the evaluations it took."""
        assert m.displacement is not None and m.loss is not None and self._known is not None
        loss, parameters = self._known.loss, sharding.local(slot.parameter.detach() for slot in current)
        saved = [parameter.clone() for parameter in parameters]
        evaluations = 0
        for _ in range(MOST_TRIALS):
            sizes = replace(self.rule, smoothness=smoothness.value).step_sizes(m)
            if (reason := no_descent(m, sizes)) is not None:
                return sizes, reason, evaluations
            if self._overflow(current, m, sizes) is not None:
                smoothness.accepts(math.inf)
                continue
            evaluations += 1
            self._known = None
            try:
                self._move(current, sizes)
                after = _Known(closure, current, self._evaluate(closure))
                change = float(after.loss) - m.loss
                slope, gradient_q, pp, pq, qq = terms_of_step(m, sizes, self._multiplier)
                required = float(required_smoothness(change, 1.0, slope, gradient_q, pp, pq, qq, _rounding(loss)))
                held = smoothness.accepts(required)
            except BaseException:
                torch._foreach_copy_(parameters, saved)
                raise
            if held and change <= 0:
                self._known = after
                self._set_smoothness(smoothness.value)
                return sizes, None, evaluations
            torch._foreach_copy_(parameters, saved)
            if held:  # the lower L of the next step makes a longer one
                self._set_smoothness(smoothness.value)
                return sizes, "the loss no longer falls by more than its rounding", evaluations
        return self._no_step(), "no step along the direction lowers the loss as its slope says", evaluations

    @property
    def _smoothness(self) -> float:
        """The L in force; before the first step the one to start from."""
        known = self.param_groups[0]["smoothness"]
        return super()._smoothness if known is None else float(known)

    def _set_smoothness(self, value: float) -> None:
        for group in self.param_groups:
            group["smoothness"] = value

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore counters, multipliers, L and the state of the direction's optimizer.

        Raises:
            LorateError: the state belongs to other adapters, another rule, or another kind of direction.
        """
        if not all("smoothness" in group for group in state_dict["param_groups"]):
            raise LorateError("the optimizer state was not saved with rule 'backtracking': build the optimizer alike")
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._known = None


def _first_smoothness(m: Measurement) -> float:
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


class _Known:
    """A loss whose gradients lie in the parameters, as long as nobody touches either."""

    def __init__(self, closure: Closure, current: Sequence[Slot], loss: Tensor) -> None:
        self.loss = loss.detach() if isinstance(loss, Tensor) else loss
        self._closure = closure
        self._marks = _marks(current)

    def still_holds(self, closure: Closure, current: Sequence[Slot]) -> bool:
        marks = _marks(current)
        return (
            closure == self._closure  # a bound method is a new object at every access
            and len(marks) == len(self._marks)
            and all(
                p is q and g is h and versions == others
                for (p, g, versions), (q, h, others) in zip(marks, self._marks, strict=True)
            )
        )


def _marks(current: Sequence[Slot]) -> list[tuple[Tensor, Tensor | None, tuple[int, int]]]:
    """Parameters and gradients with the counters of their changes in place."""
    found = []
    for slot in current:
        gradient = slot.parameter.grad
        # a sharded tensor does not count the changes of its part
        parts = sharding.local([slot.parameter.detach()] if gradient is None else [slot.parameter.detach(), gradient])
        versions = parts[0]._version, -1 if gradient is None else parts[1]._version
        found.append((slot.parameter, gradient, versions))
    return found


def _rounding(loss: Tensor | float) -> float:
    dtype = loss.dtype if isinstance(loss, Tensor) and loss.dtype.is_floating_point else torch.float64
    value = abs(float(loss))
    return ROUNDING_UNITS * torch.finfo(dtype).eps * value if math.isfinite(value) else 0.0
