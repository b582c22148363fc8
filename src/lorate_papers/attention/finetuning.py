r"""Rank-one fine-tuning in high dimension, linear attention.

The adapter w is trained on N' = alpha' D sequences with the frozen map's mistakes as noise. Each sequence acts on its
T local fields like one small non-convex problem (`prox`), whose averages close on three numbers q, m, v.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from lorate_papers.attention.arguments import SMALLEST, check, check_whole
from lorate_papers.attention.proximal import prox
from lorate_papers.attention.samples import normals, sobol, symmetric_gaussian
from lorate_papers.attention.state_evolution import (
    Array,
    FieldMoments,
    FinetuningOrder,
    StateEvolution,
    solve_from_all_starts,
)

TOLERANCE = 1e-8


@dataclass(frozen=True)
class Finetuning:
    """A rank-one fine-tuning problem on a frozen map.

    Args:
        alpha: sequences over the dimension, N' / D, positive.
        lam: weight decay ``lambda'`` on w, not negative.
        effective_noise: ``Delta_eff``, see `lorate_papers.attention.effective_noise`; not negative.
        tokens: T, at least 2.
        centred: the adapter's own mean |w|^2 / D is subtracted from the attention, as the teacher's is.
        q0: |w0|^2 / D of the teacher, positive.

    Raises:
        LorateError: an argument is out of its range.
    """

    alpha: float
    lam: float
    effective_noise: float
    tokens: int = 3
    centred: bool = True
    q0: float = 1.0

    def __post_init__(self) -> None:
        check("alpha", self.alpha, above=0, at_least=SMALLEST)
        check("lam", self.lam, at_least=0)
        check("effective_noise", self.effective_noise, at_least=0)
        check_whole("tokens", self.tokens, at_least=2)
        check("q0", self.q0, above=0)


def solve_finetuning(problem: Finetuning, points: int = 2**13, seed: int = 0) -> FinetuningOrder:
    r"""Order parameters (q, m, v) of a rank-one adapter, exact for D to infinity.

    The fixed point of `lorate_papers.attention.state_evolution.StateEvolution` with the averages of
    `lorate_papers.attention.proximal.prox`. The problem is not convex: the iteration runs from an informed and from a
    weakly informed start, and where both settle on different points the one of lower energy is returned.

    Args:
        problem: what to solve.
        points: quasi-random points of the averages, a power of two; 2**13 gives about 3e-5.
        seed: of the points.

    Raises:
        NotConverged: no start point led to a fixed point.
        LorateError: ``points`` is not a power of two.

    >>> order = solve_finetuning(Finetuning(alpha=3, lam=0.5, effective_noise=0.622326), points=2**11)
    >>> print(f"q={order.q:.2f} m={order.m:.2f} overlap={order.overlap:.3f} stable={order.stable}")
    q=0.94 m=0.96 overlap=0.989 stable=True

    Source: docs/attention/index.md, "Fine-tuning".
    """
    evolution = _LinearEvolution(problem, points, seed)
    return solve_from_all_starts(lambda start: evolution.solve(start, TOLERANCE))


def residual_targets(problem: Finetuning, points: int, seed: int) -> tuple[Array, Array, Array]:
    """Sequences at quasi-random points: what they show of the teacher under the effective noise.

    Args:
        problem: gives T, the noise and the teacher's norm.
        points: a power of two.
        seed: of the points.

    Returns:
        Eigenvalues of the target chi* chi*^T + noise (not centred), ascending; the teacher's field chi* and standard
        normal fields, both in that eigenbasis; each of shape ``[T, points]``.
    """
    T = problem.tokens
    cube = sobol(1 + T + T * (T + 1) // 2, points, seed)
    teacher = np.zeros((points, T))  # turned so that chi* points along the first token
    teacher[:, 0] = np.sqrt(2 * problem.q0 * gammaincinv(T / 2, cube[:, 0]))
    noise = math.sqrt(problem.effective_noise) * symmetric_gaussian(normals(cube[:, 1 + T :]))
    values, vectors = np.linalg.eigh(noise + teacher[:, :, None] * teacher[:, None, :])
    other = normals(cube[:, 1 : 1 + T])
    turned = [np.ascontiguousarray(np.einsum("nti,nt->in", vectors, fields)) for fields in (teacher, other)]
    return np.ascontiguousarray(values.T), turned[0], turned[1]


class _LinearEvolution(StateEvolution):
    """Averages of the exact solution at fixed quasi-random points, in the eigenbasis of each sequence's target."""

    def __init__(self, problem: Finetuning, points: int, seed: int) -> None:
        super().__init__(problem.alpha, problem.lam, problem.tokens, problem.centred, problem.q0)
        values, self.teacher, self.other = residual_targets(problem, points, seed)
        self.values = values - (problem.q0 if problem.centred else 0.0)

    def moments(self, q: float, m: float, v: float) -> FieldMoments:
        target = self.values + (q if self.centred else 0.0)
        field = m / self.q0 * self.teacher + math.sqrt(max(q - m * m / self.q0, 0.0)) * self.other
        return prox(target, field, self.teacher, v, 4 / self.tokens**2)
