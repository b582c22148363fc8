"""Steps along a direction: minus the gradient, or what another torch optimizer would add."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lorate import sharding
from lorate.errors import LorateError
from lorate.optim.direction import DirectionFactory, OptimizerDirection
from lorate.optim.gradient_descent import LoraGradientDescent
from lorate.optim.layout import Layer, Slot, slots
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Rule, StepSizes


class LoraDirected(LoraGradientDescent):
    r"""Moves all factors along a direction D, $A \leftarrow A + lr\,\eta\,D_A$ and $B \leftarrow B + lr\,\eta\,D_B$.

    A group's ``lr`` relative to that of the first group that moves stretches its part of D.

    Args:
        groups: as for `LoraGradientDescent`, like ``layers``, ``rule``, ``lr`` and ``weight_gradient``.
        layers: description of each LoRA layer.
        rule: the rule.
        lr: multiplies the step.
        weight_gradient: tells the frozen weights' gradient.
        direction: builds the torch optimizer whose direction is taken; minus the gradient if not given.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Rule,
        lr: float | None = None,
        weight_gradient: WeightGradient | None = None,
        direction: DirectionFactory | None = None,
    ) -> None:
        super().__init__(groups, layers, rule, lr, weight_gradient)
        self.direction = None if direction is None else OptimizerDirection(direction, slots(self.param_groups))
        self._directions: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Counters and multipliers, and the state of the direction's optimizer."""
        state: dict[str, Any] = super().state_dict()
        return state if self.direction is None else state | {"direction": self.direction.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them.

        Raises:
            LorateError: the state belongs to other adapters, or was saved with another kind of direction.
        """
        if ("direction" in state_dict) != (self.direction is not None):
            raise LorateError("the optimizer state was saved with another direction=: build the optimizer alike")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "direction"})
        if self.direction is not None:
            self.direction.load_state_dict(state_dict["direction"], slots(self.param_groups))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"direction": self.direction}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_directions", [])

    def _downhill(self, current: Sequence[Slot]) -> list[Tensor]:
        """The direction at the parameters' gradients, one tensor a slot."""
        if self.direction is None:
            # exact in any dtype
            plain = [torch.zeros_like(s.parameter) if s.parameter.grad is None else -s.parameter.grad for s in current]
            return self._stretched(current, plain)
        return self._stretched(current, self.direction(current))

    def _stretched(self, current: Sequence[Slot], directions: list[Tensor]) -> list[Tensor]:
        """The direction, with the multipliers of the groups relative to each other as part of it."""
        reference = self._multiplier
        ratios = [_multiplier(slot.group) / reference if reference > 0 else 1.0 for slot in current]
        if all(ratio == 1 for ratio in ratios):
            return directions
        return list(torch._foreach_mul(directions, ratios))

    @property
    def _multiplier(self) -> float:
        """That of the first group that moves at all."""
        return next((value for group in self.param_groups if (value := _multiplier(group)) > 0), 0.0)

    def _factor(self, slot: Slot, sizes: StepSizes) -> float:
        return self._multiplier * (sizes.rest if slot.role is None else sizes.of(slot.role[1], slot.role[0]))

    def _move(self, current: Sequence[Slot], sizes: StepSizes) -> None:
        together: dict[tuple[float, torch.dtype], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for slot, direction in zip(current, self._directions, strict=True):
            parameters, directions = together[self._factor(slot, sizes), slot.parameter.dtype]
            parameters.append(slot.parameter)
            directions.append(direction)
        for (factor, _), (parameters, directions) in together.items():
            if factor > 0:
                torch._foreach_add_(sharding.local(parameters), sharding.local(directions), alpha=factor)


def returned(loss: Tensor | None) -> Tensor:
    """What a closure returned, for rules that cannot do without the loss.

    Raises:
        LorateError: it returned nothing.
    """
    if loss is None:
        raise LorateError("the closure must return the loss, got None; end it with `return loss`")
    return loss


def _multiplier(group: Mapping[str, Any]) -> float:
    return float(group["lr"]) * float(group["damping"])
