"""The line that a step moves along: from where the factors are, in direction D."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.measurement import Measurement
from lorate.optim.direction import Direction
from lorate.optim.displacement import displacement_numbers
from lorate.optim.evaluation import Batch, Evaluation
from lorate.optim.layout import Layer, Slot
from lorate.optim.look_back import LookBack
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Rule, StepSizes


class StepLine:
    r"""One step's line, as `lorate.rules.Line` describes it to a rule; the optimizer moves along it too.

    Without a direction of its own D is minus the gradient, and each group's ``lr`` multiplies its part of the step. If
    D is looked at (``is_measured``), the groups' multipliers relative to each other stretch D, and that of the first
    group that moves multiplies the step.

    Args:
        slots: the parameters.
        layers: description of each LoRA layer.
        direction: another optimizer's; None for minus the gradient.
        batch: of this step.
        begun: loss and gradients that the step begins with, if a closure gave them.
        last: the line before, from its end.
        is_measured: whether the rule looks at D, so that all of it has to be one line.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        layers: Sequence[Layer],
        direction: Direction | None,
        batch: Batch,
        begun: Evaluation | None,
        last: LookBack | None,
        *,
        is_measured: bool,
    ) -> None:
        self.multiplier = next((slot.multiplier for slot in slots if slot.multiplier > 0), 0.0)
        self.last = last
        self.evaluation = begun
        self.loss_rounding = 0.0 if begun is None else begun.rounding
        self.slots, self.layers, self._direction = slots, layers, direction
        self._is_stretched = is_measured or direction is not None
        self._batch = batch
        self._parameters = sharding.local(slot.parameter.detach() for slot in slots)
        self._start: list[tuple[Tensor, Tensor]] | None = None
        self._tried: StepSizes | None = None

    @property
    def has_own_direction(self) -> bool:
        """Whether D is another optimizer's."""
        return self._direction is not None

    @cached_property
    def directions(self) -> list[Tensor]:
        """D, one tensor a slot; a gradient that is missing counts as zero."""
        if self._direction is not None:
            plain = self._direction(self.slots)
        else:
            gradients = [slot.gradient for slot in self.slots]
            # minus is exact in any dtype
            plain = [
                torch.zeros_like(slot.parameter) if gradient is None else -gradient
                for slot, gradient in zip(self.slots, gradients, strict=True)
            ]
        ratios = [slot.multiplier / self.multiplier if self.multiplier > 0 else 1.0 for slot in self.slots]
        return plain if all(ratio == 1 for ratio in ratios) else list(torch._foreach_mul(plain, ratios))

    @property
    def factors(self) -> list[Tensor]:
        """The parameters, where they are."""
        return [slot.parameter.detach() for slot in self.slots]

    def direction_rms(self) -> float:
        """Root mean square of D over all trained numbers, the mean over the ranks."""
        whole = sharding.whole(self.directions)
        count = sum(tensor.numel() for tensor in whole)
        squares = torch.stack([tensor.double().square().sum() for tensor in whole])
        return float(ranks.mean((squares.sum() / count).sqrt()))

    def numbers(self, hooks: WeightGradient | None) -> dict[str, Tensor]:
        """The numbers of a `lorate.measurement.Displacement`, still on the device."""
        return displacement_numbers(self.slots, self.directions, self.layers, hooks)

    def factor(self, slot: Slot, sizes: StepSizes) -> float:
        """What multiplies D of one slot."""
        size = sizes.rest if slot.role is None else sizes.of(slot.role[1], slot.role[0])
        return (self.multiplier if self._is_stretched else slot.multiplier) * size

    def overflow(self, m: Measurement, sizes: StepSizes) -> str | None:
        """A finite direction times a huge step can still leave the range of the adapters' dtype."""
        d = m.displacement
        weights = {"A": m.A_sq, "B": m.B_sq}
        # the length of another optimizer's D is known where it was measured
        lengths = {"A": m.A_grad_sq, "B": m.B_grad_sq} if d is None else {"A": d.A_sq, "B": d.B_sq}
        rest = m.rest_grad_sq if d is None else d.rest_sq
        for slot in self.slots:
            factor = self.factor(slot, sizes)
            if d is None and self._is_stretched:
                longest = factor
            elif slot.role is None:
                longest = factor * rest**0.5
            else:
                layer, side = slot.role
                longest = float(weights[side][layer]) ** 0.5 + factor * float(lengths[side][layer]) ** 0.5
            if not longest < torch.finfo(slot.parameter.dtype).max:
                return f"the step would overflow {str(slot.parameter.dtype).removeprefix('torch.')}: lower lr"
        return None

    def proved_decrease(
        self, rule: Rule, m: Measurement, sizes: StepSizes, hooks: WeightGradient | None
    ) -> float | None:
        """None is claimed with dropout, a sketch, or multipliers above 1 or of several kinds."""
        is_random = (hooks is not None and hooks.method == "sketch") or any(layer.dropout for layer in self.layers)
        has_one = self._is_stretched or len({slot.multiplier for slot in self.slots}) == 1
        if is_random or self.multiplier > 1 or not has_one:
            return None
        return rule.proved_decrease(m, sizes, self.multiplier)

    def loss_at(self, sizes: StepSizes) -> float:
        """Move there and evaluate the batch of this step, gradients included."""
        self.back()
        # batch norm counts a trial that is given up, unless its buffers come back too
        buffers = [] if self._batch.forward is None else list(self._batch.forward.model.buffers())
        self._start = [(kept, kept.clone()) for kept in (*self._parameters, *buffers)]
        self._move(sizes)
        self._tried, self.evaluation = sizes, self._batch.evaluate()
        return float(self.evaluation.loss)

    def steps(self, sizes: StepSizes) -> list[Tensor]:
        r"""$\eta D$, one tensor a slot."""
        factors = [self.factor(slot, sizes) for slot in self.slots]
        return [
            factor * direction.to(accumulation_dtype(direction.dtype))
            for factor, direction in zip(factors, self.directions, strict=True)
        ]

    def go(self, sizes: StepSizes) -> None:
        """End at these sizes; where the rule has already evaluated them the factors stay where they are."""
        if self._tried is not sizes:
            self.back()
            self._move(sizes)

    def back(self) -> None:
        """Return to the start of the line, bit for bit."""
        if self._start is None:
            return
        for kept, value in self._start:
            kept.copy_(value)
        self._start = self._tried = self.evaluation = None

    def _move(self, sizes: StepSizes) -> None:
        along = self.directions if self._is_stretched else [slot.gradient for slot in self.slots]
        sign = 1.0 if self._is_stretched else -1.0
        together: dict[tuple[float, torch.dtype], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
        for slot, direction in zip(self.slots, along, strict=True):
            if direction is not None:
                parameters, directions = together[self.factor(slot, sizes), slot.parameter.dtype]
                parameters.append(slot.parameter)
                directions.append(direction)
        for (factor, _), (parameters, directions) in together.items():
            if factor > 0 or not self._is_stretched:
                torch._foreach_add_(sharding.local(parameters), sharding.local(directions), alpha=sign * factor)
