r"""What the next batch says about a step: the slope at the end of its move, and the sum of these slopes.

Let $D_t$ be the move of all trained parameters in step t and $q_t = \langle\hat g_{t+1}, D_t\rangle$ its slope on a
batch it has not seen. For a loss that does not curve downwards along the steps, $\sum q_t$ estimates the change of the
*true* loss from above, up to a martingale. Source: docs/mathematics/minibatch.md, Proposition 5.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.hooks import attach
from lorate.optim.measure import to_host

FIRST = 20
"""Slopes that set the scale of the error; before there are so many nothing is said."""


@dataclass(frozen=True)
class EndSlope:
    r"""One move, seen from its end on the next batch.

    Attributes:
        slope: $q_t = \langle\hat g_{t+1}, D_t\rangle$, negative while the loss still falls there.
        moved_sq: $\|D_t\|^2$ over all trained parameters.
    """

    slope: float
    moved_sq: float


class EndSlopes:
    """Measures the slope of each move of any torch optimizer when the next step begins.

    The gradients must be there then, of the whole batch and not clipped: a step that evaluates a closure of its own has
    none. One copy of the parameters is kept; a step costs some passes over the adapters, none over the model.

    Args:
        optimizer: any torch optimizer.

    Attributes:
        last: of the move that ended where the last step began; None if it was not seen.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.last: EndSlope | None = None
        self._starts: list[Tensor] | None = None
        self._handle = attach(optimizer.register_step_pre_hook, self._look)

    @torch.no_grad()
    def _look(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        now, starts, self.last = _by_device(sharding.local(p.detach() for p in trained)), self._starts, None
        closure = args[1] if len(args) > 1 else options.get("closure")
        if starts is not None and closure is None:
            self.last = self._end(optimizer, trained, [end.sub(start) for end, start in zip(now, starts, strict=True)])
            if self.last is None:  # a batch that says nothing: the next one looks at both moves
                return
        self._starts = now

    def _end(self, optimizer: torch.optim.Optimizer, trained: list[Tensor], moves: list[Tensor]) -> EndSlope | None:
        if all(parameter.grad is None for parameter in trained):
            return None
        gradients = _by_device(sharding.local(torch.zeros_like(p) if p.grad is None else p.grad for p in trained))
        device = moves[0].device
        pieces = {
            "slope": torch.stack([g.dot(move).to(device) for g, move in zip(gradients, moves, strict=True)]).sum(),
            "moved": torch.stack([move.dot(move).to(device) for move in moves]).sum(),
        }
        numbers = to_host(pieces, device)
        # to_host takes the mean over ranks, each of which holds a part where the parameters are sharded
        parts = ranks.world_size() if any(sharding.is_sharded(parameter) for parameter in trained) else 1
        scale = getattr(optimizer, "grad_scale", None)  # of a GradScaler that leaves the division to the optimizer
        slope, moved = (parts * float(numbers[name][0]) for name in ("slope", "moved"))
        slope /= 1.0 if scale is None else float(scale)
        return EndSlope(slope, moved) if math.isfinite(slope) and math.isfinite(moved) else None

    def remove(self) -> None:
        """Take the hook off the optimizer."""
        self._handle.remove()


def _by_device(tensors: list[Tensor]) -> list[Tensor]:
    """One flat copy per device, in float32 at least: few long operations instead of many short ones."""
    together: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        together.setdefault(tensor.device, []).append(tensor.reshape(-1))
    precise = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return [torch.cat(parts).to(precise) for parts in together.values()]


@dataclass
class SlopeSum:
    r"""The running sum of end slopes with its error.

    The error is that of a martingale whose variance is estimated from successive differences,
    $v_T = \tfrac12\sum(q_t - q_{t-1})^2$, so that a drift of the mean counts little. With $\rho$ the variance of the
    first slopes, the true sum exceeds the measured one by more than

    $$ \sqrt{2(v_T + \rho)\,\ln\Bigl(1 + \frac{\sqrt{(v_T + \rho)/\rho}}{2\alpha}\Bigr)} $$

    at any time of a run with probability about $\alpha$ at most, for many slopes without heavy tails: Robbins' normal
    mixture, in the one-sided and asymptotic form of Waudby-Smith and others (arXiv 2103.06476).

    Attributes:
        count: slopes so far.
        total: their sum.
        variance: $v_T$.
        moved_sq: $\sum\|D_t\|^2$.
    """

    count: int = 0
    total: float = 0.0
    variance: float = 0.0
    moved_sq: float = 0.0
    _last: float = 0.0
    _first_variance: float = 0.0

    def add(self, slope: float, moved_sq: float = 0.0) -> None:
        """Take in one slope."""
        if self.count > 0:
            self.variance += (slope - self._last) ** 2 / 2
        self.count, self._last = self.count + 1, slope
        self.total += slope
        self.moved_sq += moved_sq
        if self.count == FIRST:
            self._first_variance = self.variance

    def error(self, level: float = 0.95) -> float:
        """How far above the sum the true one may lie; infinite before there are `FIRST` slopes."""
        if self.count < FIRST:
            return math.inf
        if self.variance == 0:
            return 0.0
        rho = self._first_variance if self._first_variance > 0 else self.variance
        size = self.variance + rho
        return math.sqrt(2 * size * math.log1p(math.sqrt(size / rho) / (2 * (1 - level))))

    @property
    def bound(self) -> float | None:
        """`upper` at 95%; None before there are enough slopes."""
        return None if self.count < FIRST else self.upper()

    def upper(self, level: float = 0.95) -> float:
        """The estimate of the change of the true loss, from above at this level, at all times of a run at once."""
        return self.total + self.error(level)
