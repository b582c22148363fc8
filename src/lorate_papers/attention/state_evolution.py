"""The three equations of rank-one fine-tuning, shared by linear and softmax attention."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lorate_papers.attention.convergence import NotConverged, settle

Array = NDArray[np.float64]

STARTS = {"informed": (1.0, 0.95, 0.5), "weak": (0.5, 0.05, 0.3)}  # q / q0, m / q0, v; m = 0 never moves
ABSENT = 1e-7  # an adapter of smaller norm q / q0 has no direction
JUMP = 0.05  # a smallest inverse response below this: two minimisers are close to a tie


@dataclass(frozen=True)
class FieldMoments:
    """Averages over the sequences of the small problem's solution chi (K is the inverse response d omega / d chi).

    Attributes:
        trace_inverse: E tr K^-1.
        alignment: E of the response of the force to the teacher's field, traced.
        force: E |chi - omega|^2 / v^2.
        trace_gradient: E of the trace of the loss's gradient in the attention.
        replicon: E ||K^-1 - I||_F^2.
        jumps: share of sequences next to a jump of the minimiser.
        loss: E of the loss of a sequence.
    """

    trace_inverse: float
    alignment: float
    force: float
    trace_gradient: float
    replicon: float
    jumps: float
    loss: float


@dataclass(frozen=True)
class FinetuningOrder:
    """Order parameters of the trained adapter w.

    Attributes:
        q: |w|^2 / D.
        m: |w . w0| / D (the sign of w is free).
        v: response of the fit to a perturbation.
        q0: |w0|^2 / D.
        effective_decay: weight decay after the centring's share, ``lambda'_eff``.
        replicon: stability; below 1 the replica-symmetric solution holds, else the numbers are not to be trusted.
        jumps: share of sequences whose small problem is about to change its minimiser; should be near 0.
        energy: training loss with weight decay over D (linear attention: for symmetrised labels).
        start: the start point that led here, "informed" or "weak".
        agreed: every start point that settled led to these values.
    """

    q: float
    m: float
    v: float
    q0: float
    effective_decay: float
    replicon: float
    jumps: float
    energy: float
    start: str
    agreed: bool

    @property
    def overlap(self) -> float:
        """Cosine between w and w0; nan where the adapter vanishes."""
        if self.q <= ABSENT * self.q0:
            return math.nan
        return min(self.m / math.sqrt(self.q * self.q0), 1.0)

    @property
    def stable(self) -> bool:
        """Whether the replica-symmetric solution holds: ``replicon < 1``."""
        return self.replicon < 1


@dataclass
class StateEvolution(ABC):
    r"""The equations, for averages that a subclass provides.

    $$ \hat v = \alpha' (T - E\,\mathrm{tr} K^{-1}) / v, \quad \hat m = \alpha' \cdot \text{alignment}, \quad
              \hat q = \alpha' E|g|^2, \quad \lambda'_{eff} = \lambda' - \alpha' E\,\mathrm{Tr}\,G $$

    $$ v = 1 / (\hat v + 2 \lambda'_{eff}), \quad m = \hat m q_0 v, \quad q = (\hat m^2 q_0 + \hat q) v^2 $$

    The share of G in the weight decay is there only where the adapter's own mean is subtracted (``centred``), since
    the loss then depends on |w|^2 directly.

    Attributes:
        alpha: sequences over the dimension, alpha' = N' / D.
        lam: weight decay lambda' of the adapter.
        tokens: T.
        centred: the adapter's own mean is subtracted from its attention.
        q0: |w0|^2 / D of the teacher.
    """

    alpha: float
    lam: float
    tokens: int
    centred: bool
    q0: float

    @abstractmethod
    def moments(self, q: float, m: float, v: float) -> FieldMoments:
        """Averages at the given order parameters."""

    def solve(self, start: str, tolerance: float) -> FinetuningOrder:
        """Iterate from a named start point."""
        q, m, v = STARTS[start]
        state = settle(self._update, np.array([q * self.q0, m * self.q0, v]), ("q", "m", "v"), tolerance)
        q, m, v = (float(z) for z in state)
        moments = self.moments(q, m, v)
        return FinetuningOrder(
            q=max(q, 0.0),
            m=abs(m),
            v=v,
            q0=self.q0,
            effective_decay=self._effective_decay(moments),
            replicon=self.alpha * moments.replicon,
            jumps=moments.jumps,
            energy=self.alpha * moments.loss + self.lam * q,
            start=start,
            agreed=True,
        )

    def _effective_decay(self, moments: FieldMoments) -> float:
        return self.lam - (self.alpha * moments.trace_gradient if self.centred else 0.0)

    def _update(self, state: Array) -> Array:
        q, m, v = (float(z) for z in state)
        moments = self.moments(q, m, v)
        v_hat = self.alpha / v * (self.tokens - moments.trace_inverse)
        m_hat = self.alpha * moments.alignment
        v = 1 / max(v_hat + 2 * self._effective_decay(moments), 1e-3)  # transients may leave the positive side
        return np.array([(m_hat**2 * self.q0 + self.alpha * moments.force) * v**2, m_hat * self.q0 * v, v])


def solve_from_all_starts(solve: Callable[[str], FinetuningOrder]) -> FinetuningOrder:
    """Solve from every start point and keep the solution of lowest energy.

    Raises:
        NotConverged: no start point led to a fixed point; the exception of the informed one.
    """
    found: list[FinetuningOrder] = []
    failures: list[NotConverged] = []
    for start in STARTS:
        try:
            found.append(solve(start))
        except NotConverged as failure:
            failures.append(failure)
    if not found:
        raise failures[0]
    first = found[0]
    if all(abs(o.q - first.q) + abs(o.m - first.m) < 1e-3 * first.q0 for o in found):
        return first
    return replace(min(found, key=lambda order: order.energy), agreed=False)
