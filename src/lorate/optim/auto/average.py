"""The average of the adapters over the run, which is what a run with rule ``auto`` ends with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate import sharding
from lorate.gradient_norm.norms import accumulation_dtype

EXPONENT = 5.0


class PolynomialAverage:
    r"""$U_t = (1 - w_t)\,U_{t-1} + w_t V_t$ with $w_t = 6 / (t + 5)$, t from 1: weights that grow about as $t^5$.

    It needs no number of steps in advance: at any time the last sixth of the run counts for two thirds.

    Args:
        parameters: where they start.

    Source: Shamir and Zhang 2013, arXiv 1212.1824, polynomial-decay averaging with $\eta = 5$.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.tensors = [p.detach().to(accumulation_dtype(p.dtype), copy=True) for p in parameters]

    def update(self, parameters: Sequence[Tensor], step: int) -> None:
        """Take in the parameters after step number ``step`` (from 1)."""
        self._follow(parameters)
        weight = (EXPONENT + 1) / (step + EXPONENT)
        values = [p.detach().to(a.dtype) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_lerp_(sharding.local(self.tensors), sharding.local(values), weight)

    def exchange(self, parameters: Sequence[Tensor]) -> None:
        """Swap the average with the parameters; twice is nothing, bit for bit in float32 and float64."""
        self._follow(parameters)
        before = [p.detach().to(a.dtype, copy=True) for p, a in zip(parameters, self.tensors, strict=True)]
        torch._foreach_copy_(sharding.local(p.detach() for p in parameters), sharding.local(self.tensors))
        self.tensors = before

    def _follow(self, parameters: Sequence[Tensor]) -> None:
        """Start from the parameters again if they were sharded since: no step was averaged before."""
        self.tensors = sharding.followed(self.tensors, parameters) or self.tensors
