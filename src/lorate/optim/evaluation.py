"""The batch of a step: how it is evaluated, and what came of it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.errors import LorateError
from lorate.optim.layout import Slot
from lorate.optim.replay import TrainingForward
from lorate.rules import Rule

Closure = Callable[[], Tensor]

ROUNDING_UNITS = 4.0
"""How many units in the last place of a loss a change of it may be off by."""


class Evaluation:
    """What a closure returned, with the gradients that it left in the parameters.

    A rule that tries steps leaves the gradients of the accepted trial behind; a next call with the same closure starts
    from them, unless parameters or gradients were changed in between.

    Attributes:
        loss: as a tensor, or the number that the closure returned.

    Args:
        closure: what was evaluated.
        slots: the parameters.
        loss: what it returned.
    """

    def __init__(self, closure: Closure, slots: Sequence[Slot], loss: Tensor) -> None:
        self.loss = loss.detach() if isinstance(loss, Tensor) else loss
        self._closure = closure
        self._marks = _marks(slots)

    @property
    def rounding(self) -> float:
        """Absolute rounding error of a change of this loss."""
        is_float = isinstance(self.loss, Tensor) and self.loss.dtype.is_floating_point
        dtype = self.loss.dtype if is_float else torch.float64
        value = math.nan if self.loss is None else abs(float(self.loss))  # not every rule asks for one
        return ROUNDING_UNITS * torch.finfo(dtype).eps * value if math.isfinite(value) else 0.0

    def still_holds(self, closure: Closure, slots: Sequence[Slot]) -> bool:
        """Whether evaluating the closure would give the same loss and gradients again."""
        marks = _marks(slots)
        return (
            closure == self._closure  # a bound method is a new object at every access
            and len(marks) == len(self._marks)
            and all(
                p is q and g is h and versions == others
                for (p, g, versions), (q, h, others) in zip(marks, self._marks, strict=True)
            )
        )


class Batch:
    """What one step is made from.

    Attributes:
        replay: evaluates it again without gradients; None if it cannot be.
        forward: the model's forward passes; None for an optimizer that knows no model.
        evaluations: of the closure, with gradients.

    Args:
        rule: says what it needs of a closure.
        slots: the parameters.
        closure: evaluates loss and gradients; None if they are there already.
        replay: what the user set for rules that evaluate a batch again.
        forward: as above.
    """

    def __init__(
        self,
        rule: Rule,
        slots: Sequence[Slot],
        closure: Closure | None,
        replay: Closure | None,
        forward: TrainingForward | None,
    ) -> None:
        if closure is not None and not callable(closure):
            raise LorateError(
                f"optimizer.step(closure) takes a function, got a {type(closure).__name__}; give a loss by name: "
                "optimizer.step(loss=loss)"
            )
        if closure is None and "closure" in rule.needs:
            raise LorateError(
                f"rule {rule.name!r} tries steps and needs a closure: optimizer.step(closure), where closure() clears "
                "the gradients, evaluates the loss, calls backward and returns the loss; without one use 'majorizer'"
            )
        self.replay = replay if closure is None else closure
        self.forward = forward
        self.evaluations = 0
        self._rule, self._slots, self._closure = rule, slots, closure

    def begin(self, known: Evaluation | None) -> Evaluation | None:
        """Loss and gradients that the step begins with, unless they are there already; None without a closure."""
        if self._closure is None:
            return None
        if known is not None and known.still_holds(self._closure, self._slots):
            return known
        return self.evaluate()

    @staticmethod
    def loss(begun: Evaluation | None, given: Tensor | float | None, shares: Sequence[Tensor]) -> Tensor | float | None:
        """The loss of the step: the closure's, the one that was given, or the sum of its micro-batches' shares."""
        if begun is not None:
            return begun.loss
        if given is None and shares:
            return torch.stack([share.double() for share in shares]).sum()
        return given

    def evaluate(self) -> Evaluation:
        """Loss and gradients where the parameters are.

        Raises:
            LorateError: there is no closure, or it returned nothing.
        """
        if self._closure is None:
            raise LorateError(f"rule {self._rule.name!r} tries steps, which takes optimizer.step(closure)")
        self.evaluations += 1
        with torch.enable_grad():
            if self.forward is None:
                loss = self._closure()
            else:
                with self.forward.of_closure():
                    loss = self._closure()
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise LorateError(f"the closure must return one number, got a tensor of shape {list(loss.shape)}")
        if loss is None and {"loss", "closure"} & self._rule.needs:
            raise LorateError("the closure must return the loss, got None; end it with `return loss`")
        if "closure" in self._rule.needs and ranks.world_size() > 1:
            loss = ranks.mean(loss).to(loss.dtype)  # of the whole batch, so that every rank accepts the same trial
        return Evaluation(self._closure, self._slots, loss)


def _marks(slots: Sequence[Slot]) -> list[tuple[Tensor, Tensor | None, tuple[int, int]]]:
    """Parameters and gradients with the counters of their changes in place."""
    marks = []
    for slot in slots:
        gradient = slot.parameter.grad
        # a sharded tensor does not count the changes of its part
        parts = sharding.local([slot.parameter.detach()] if gradient is None else [slot.parameter.detach(), gradient])
        versions = parts[0]._version, -1 if gradient is None else parts[1]._version
        marks.append((slot.parameter, gradient, versions))
    return marks
