"""The average of the adapters over the run, which is what a run ends with under rules that ask for one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate import sharding
from lorate.gradient_norm.norms import accumulation_dtype


class PolynomialAverage:
    r"""$U_t = (1 - w_t)\,U_{t-1} + w_t V_t$ with $w_t = (p + 1) / (t + p)$, t from 1: weights that grow about as $t^p$.

    It needs no number of steps in advance: with p = 5 the last sixth of the run counts for two thirds at any time.
    The parameters after a step count once the loss there was seen, since the step may be taken back until then.

    Args:
        parameters: where they start.
        exponent: p.

    Attributes:
        tensors: the average, or the last parameters while the average is in the model.
        is_in_model: which of the two it is.
        pending: number of the step that is not taken in yet; 0 if there is none.

    Source: Shamir and Zhang 2013, arXiv 1212.1824, polynomial-decay averaging with $\eta = p$.
    """

    def __init__(self, parameters: Sequence[Tensor], exponent: float) -> None:
        self.exponent = exponent
        self.is_in_model = False
        self.pending = 0
        self.tensors = [p.detach().to(accumulation_dtype(p.dtype), copy=True) for p in parameters]

    def take_in(self, parameters: Sequence[Tensor]) -> None:
        """Count the pending step, if there is one; the parameters are those after it."""
        if not self.pending:
            return
        self._follow(parameters)
        weight = (self.exponent + 1) / (self.pending + self.exponent)
        values = [p.detach().to(a.dtype) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_lerp_(sharding.local(self.tensors), sharding.local(values), weight)
        self.pending = 0

    def exchange(self, parameters: Sequence[Tensor]) -> None:
        """Swap the average with the parameters; twice is nothing, bit for bit in float32 and float64."""
        self._follow(parameters)
        before = [p.detach().to(a.dtype, copy=True) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_copy_(sharding.local(p.detach() for p in parameters), sharding.local(self.tensors))
        self.tensors = before
        self.is_in_model = not self.is_in_model

    def _follow(self, parameters: Sequence[Tensor]) -> None:
        """Go where the parameters went: sharded since (no step was averaged before), or in another dtype or place."""
        self.tensors = [
            a.to(device=p.device, dtype=accumulation_dtype(p.dtype))
            for a, p in zip(sharding.followed(self.tensors, parameters) or self.tensors, parameters, strict=True)
        ]
