"""Where a step goes: the rule's own direction, or that of any torch optimizer, which does not move the parameters."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lorate import sharding
from lorate.errors import LorateError
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.optim.layout import Slot
from lorate.optim.whitening import RankWhitening
from lorate.rules import RULES, Rule

DirectionFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Builds an optimizer over given tensors: ``torch.optim.AdamW``, or ``functools.partial(torch.optim.AdamW, ...)``."""


class Direction(Protocol):
    """D, one tensor a parameter, from the gradients; it remembers.

    Attributes:
        kind: its name in saved states.
    """

    @property
    def kind(self) -> str:
        """As above."""

    def __call__(self, slots: Sequence[Slot]) -> list[Tensor]:
        """D at the parameters' values and gradients."""

    def state_dict(self, slots: Sequence[Slot]) -> dict[str, Any]:
        """What it remembers: ``state`` by the parameter's place in the list, and ``param_groups``."""

    def load_state_dict(self, state: dict[str, Any], slots: Sequence[Slot]) -> None:
        """Restore what `state_dict` gave, for the parameters as they are now."""


def direction_of(rule: Rule, factory: DirectionFactory | None, slots: Sequence[Slot]) -> Direction | None:
    """The direction that a rule takes, or the one that the user prefers; None for minus the gradient.

    Raises:
        LorateError: the rule is for plain gradients, or the factory is of no use.
    """
    if factory is None:
        return RankWhitening() if rule.direction == "whitened" else None
    if not rule.allows_direction:
        others = ", ".join(name for name, other in RULES.items() if other.allows_direction)
        raise LorateError(f"rule {rule.name!r} is for plain gradients; direction= goes with {others}")
    return OptimizerDirection(factory, slots, rule.direction_lr)


class OptimizerDirection:
    """What another optimizer would add to the parameters, weight decay included.

    It steps on copies of its own, in float32 at least; the difference is the direction. Parameters and gradients are
    only read.

    Args:
        factory: builds the optimizer.
        slots: the parameters to copy.
        lr: the optimizer's; None leaves it its own.

    Raises:
        LorateError: the factory does not build a torch optimizer, or one over other tensors than the copies, or one
            that needs a closure.
    """

    def __init__(self, factory: DirectionFactory, slots: Sequence[Slot], lr: float | None = None) -> None:
        self._copies = [
            slot.parameter.detach().to(accumulation_dtype(slot.parameter.dtype), copy=True) for slot in slots
        ]
        inner = factory(self._copies) if callable(factory) else None
        if not isinstance(inner, torch.optim.Optimizer):
            raise LorateError(
                "direction must build a torch optimizer from a list of tensors, such as torch.optim.AdamW or "
                f"functools.partial(torch.optim.AdamW, betas=(0.9, 0.95)); got {factory!r}"
            )
        if isinstance(inner, torch.optim.LBFGS):
            raise LorateError("LBFGS evaluates a closure of its own and has no direction to take; use AdamW, say")
        given = set(map(id, self._copies))
        if any(id(parameter) not in given for group in inner.param_groups for parameter in group["params"]):
            raise LorateError(
                "direction must build its optimizer from the list of tensors that it is given, not from the model's "
                "parameters, which it would move itself; pass torch.optim.AdamW, say, or functools.partial of it"
            )
        if lr is not None:
            for group in inner.param_groups:
                group["lr"] = lr
        self.inner = inner

    @property
    def kind(self) -> str:
        """The optimizer's class."""
        return type(self.inner).__name__

    def __call__(self, slots: Sequence[Slot]) -> list[Tensor]:
        """One step of the optimizer at the parameters' values and gradients.

        Args:
            slots: the parameters, in the order of the constructor.

        Returns:
            One displacement per parameter.
        """
        self._follow(slots)
        parameters = [slot.parameter.detach() for slot in slots]
        torch._foreach_copy_(sharding.local(self._copies), sharding.local(parameters))
        for copy, slot in zip(self._copies, slots, strict=True):
            gradient = slot.gradient
            # a copy: SGD with Nesterov's momentum, for one, adds to what it is given
            copy.grad = None if gradient is None else gradient.to(copy.dtype, copy=True)
        self.inner.step()
        for copy in self._copies:
            copy.grad = None
        # a coordinate whose second moment is zero has no direction (0/0, or infinite): it does not move
        return [d.nan_to_num_(0.0, 0.0, 0.0) for d in torch._foreach_sub(self._copies, parameters)]

    def state_dict(self, slots: Sequence[Slot]) -> dict[str, Any]:
        """The optimizer's own state, whose numbers of parameters are places in the list of slots."""
        place = {id(copy): i for i, copy in enumerate(self._copies)}
        order = [place[id(copy)] for group in self.inner.param_groups for copy in group["params"]]
        own = self.inner.state_dict()
        return {"state": {order[i]: kept for i, kept in own["state"].items()}, "param_groups": own["param_groups"]}

    def load_state_dict(self, state: dict[str, Any], slots: Sequence[Slot]) -> None:
        """Restore what `state_dict` gave, for the parameters as they are now."""
        self._follow(slots)
        place = {id(copy): i for i, copy in enumerate(self._copies)}
        order = [place[id(copy)] for group in self.inner.param_groups for copy in group["params"]]
        by_number = {number: state["state"][i] for number, i in enumerate(order) if i in state["state"]}
        self.inner.load_state_dict({"state": by_number, "param_groups": state["param_groups"]})

    def _follow(self, slots: Sequence[Slot]) -> None:
        """Shard the copies as the parameters were sharded after they were made."""
        parameters = [slot.parameter for slot in slots]
        fresh = sharding.followed(self._copies, parameters)
        if fresh is None:
            return
        if self.inner.state:
            raise LorateError("the parameters were sharded after the first step: shard them before it")
        new = dict(zip(map(id, self._copies), fresh, strict=True))
        for group in self.inner.param_groups:
            group["params"] = [new[id(copy)] for copy in group["params"]]
        self._copies = fresh
