"""The average of the adapters over the run, which is what a run ends with under rules that ask for one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorate import sharding
from lorate.gradient_norm.norms import accumulation_dtype


class PolynomialAverage:
    r"""Steps move z, the run ends with its average x, and gradients are taken in between, at y.

    $$ z_t = z_{t-1} + \delta_t, \qquad x_t = (1 - w_t)\,x_{t-1} + w_t z_t, \qquad y_t = (1 - b)\,z_t + b\,x_t, \qquad
       w_t = \frac{p + 1}{t + p}, $$

    t from 1. The weights of x grow about as $t^p$ and need no number of steps in advance: with p = 2 the last fifth of
    the run counts for half. y is in the model; with b = 0 it is z. Only x is kept beside it, since
    $y_t - x_{t-1} = (1 - b\,(1 - w_t))\,(z_t - x_{t-1})$.

    A step counts once the loss after it was seen, since it may be taken back until then: x is one step behind.

    Args:
        parameters: where they start.
        exponent: p.
        share: b.

    Attributes:
        tensors: x, or y while x is in the model.
        is_in_model: which of the two it is.
        pending: number t of the step that is not taken in yet; 0 if there is none.
        has_begun: whether a step was taken in; until then x is where the parameters are, which may be loaded late.
        mark: of the parameters that a loaded x belongs to, until they are looked at (`lorate.optim.mark`).

    Source: Shamir and Zhang 2013, arXiv 1212.1824, polynomial-decay averaging with $\eta = p$; Defazio et al. 2024,
    arXiv 2405.15682, for gradients at y.
    """

    def __init__(self, parameters: Sequence[Tensor], exponent: float, share: float) -> None:
        self.exponent, self.share = exponent, share
        self.is_in_model = self.has_begun = False
        self.pending = 0
        self.mark: dict[str, Any] | None = None
        self.tensors = self._copies(parameters)

    def weight(self, number: int) -> float:
        """Weight w of step ``number``."""
        return (self.exponent + 1) / (number + self.exponent)

    def take_in(self, parameters: Sequence[Tensor]) -> None:
        """Count the pending step, if there is one; the parameters are those after it."""
        self._follow(parameters)
        if not self.pending:
            return
        weight = self.weight(self.pending)
        values = [p.detach().to(a.dtype) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_lerp_(sharding.local(self.tensors), sharding.local(values), weight / self._reach(weight))
        self.pending, self.has_begun = 0, True

    def displacement(self, parameters: Sequence[Tensor], steps: Sequence[Tensor], number: int) -> list[Tensor]:
        r"""What takes y where z's step takes it; nothing may be pending.

        Args:
            parameters: y.
            steps: $\delta$.
            number: t.
        """
        reach = self._reach(self.weight(number))
        if reach == 1:
            return list(steps)
        self._follow(parameters)
        values = [p.detach().to(a.dtype) for p, a in zip(parameters, self.tensors, strict=True)]
        ahead = torch._foreach_sub(values, self.tensors)  # y - x
        moved = torch._foreach_mul(ahead, reach / (1 - self.share) - 1)
        torch._foreach_add_(moved, list(steps), alpha=reach)
        return list(moved)

    @torch.inference_mode(False)  # what is made here is trained on with
    @torch.no_grad()
    def exchange(self, parameters: Sequence[Tensor]) -> None:
        """Swap the average with the parameters; twice is nothing, bit for bit in float32 and float64."""
        self._follow(parameters)
        before = [p.detach().to(a.dtype, copy=True) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_copy_(sharding.local(p.detach() for p in parameters), sharding.local(self.tensors))
        self.tensors = before
        self.is_in_model = not self.is_in_model

    def _reach(self, weight: float) -> float:
        """The ratio of y - x to z - x, with x from before a step of this weight."""
        return 1 - self.share * (1 - weight)

    @staticmethod
    def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
        return [p.detach().to(accumulation_dtype(p.dtype), copy=True) for p in parameters]

    def _follow(self, parameters: Sequence[Tensor]) -> None:
        """Go where the parameters went: loaded or sharded before the first step, or in another dtype or place."""
        if not (self.has_begun or self.pending):
            self.tensors = self._copies(parameters)
        self.tensors = [
            a.to(device=p.device, dtype=accumulation_dtype(p.dtype))
            for a, p in zip(sharding.followed(self.tensors, parameters) or self.tensors, parameters, strict=True)
        ]
