"""The direction of any torch optimizer, without letting it move the parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lorate import sharding
from lorate.errors import LorateError
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.optim.layout import Slot

DirectionFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Builds an optimizer over given tensors: ``torch.optim.AdamW``, or ``functools.partial(torch.optim.AdamW, ...)``."""


class OptimizerDirection:
    """What another optimizer would add to the parameters, weight decay included.

    It steps on copies of its own, in float32 at least; the difference is the direction. Parameters and gradients are
    only read.

    Args:
        factory: builds the optimizer.
        slots: the parameters to copy.

    Raises:
        LorateError: the factory does not build a torch optimizer, or one over other tensors than the copies, or one
            that needs a closure.
    """

    def __init__(self, factory: DirectionFactory, slots: Sequence[Slot]) -> None:
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
        self.inner = inner

    def __call__(self, slots: Sequence[Slot]) -> list[Tensor]:
        """One step of the optimizer at the parameters' values and gradients.

        Args:
            slots: the parameters, in the order of the constructor.

        Returns:
            One displacement a parameter.
        """
        self._follow(slots)
        parameters = [slot.parameter.detach() for slot in slots]
        torch._foreach_copy_(sharding.local(self._copies), sharding.local(parameters))
        for copy, slot in zip(self._copies, slots, strict=True):
            gradient = slot.parameter.grad
            # a copy: SGD with Nesterov's momentum, for one, adds to what it is given
            copy.grad = None if gradient is None else gradient.to(copy.dtype, copy=True)
        self.inner.step()
        for copy in self._copies:
            copy.grad = None
        return list(torch._foreach_sub(self._copies, parameters))

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's own state."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any], slots: Sequence[Slot]) -> None:
        """Restore it, for the parameters as they are now."""
        self._follow(slots)
        self.inner.load_state_dict(state_dict)

    def _follow(self, slots: Sequence[Slot]) -> None:
        """Shard the copies as the parameters were sharded after they were made."""
        fresh = sharding.followed(self._copies, [slot.parameter for slot in slots])
        if fresh is None:
            return
        if self.inner.state:
            raise LorateError("the parameters were sharded after the first step: shard them before it")
        new = dict(zip(map(id, self._copies), fresh, strict=True))
        for group in self.inner.param_groups:
            group["params"] = [new[id(copy)] for copy in group["params"]]
        self._copies = fresh
