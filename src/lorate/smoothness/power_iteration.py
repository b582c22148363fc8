r"""Largest curvature of any loss at a point, by power iteration on Hessian-vector products, in Lanczos's form.

Each product costs one backward pass on a graph that is built once; three vectors are kept, and no dense Hessian. The
power iteration looks at its last vector only; Lanczos's recurrence takes the best estimate that all products so far
allow (the largest eigenvalue, in absolute value, of a small tridiagonal matrix), for the same price. It never falls and
never exceeds $\|H\|_2$, whatever the signs of the eigenvalues. ARPACK (``scipy.sparse.linalg.eigsh``) finds the same
with as many products, but keeps 20 vectors of the parameters' size. Source: docs/mathematics/smoothness.md.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lorate.errors import LorateError

LEAST = 20
"""Products before a small residual counts: a start that has little of the largest eigenvector in it looks converged to
another eigenvalue at first. ARPACK makes as many by default."""
INVARIANT = 1e-6
"""A new direction shorter than this part of the estimate is rounding: the products span all that the start holds."""


@dataclass(frozen=True)
class HessianNorm:
    """Result of the iteration.

    Attributes:
        value: the largest absolute eigenvalue of the Hessian, from below.
        iterations: Hessian-vector products used.
        converged: whether an eigenvalue lies within the tolerance of the value.
    """

    value: float
    iterations: int
    converged: bool


def hessian_norm(
    closure: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    seed: int = 0,
) -> HessianNorm:
    r"""Spectral norm of the Hessian of a loss in some tensors, at their present values.

    This is the curvature at one point; the L of the theorems is its supremum over all points. For the joint L of the
    adapted weights pass the frozen weights W_l themselves: they are made differentiable for the call and restored.

    Args:
        closure: computes the loss, a scalar, from the parameters as they are; deterministic (no dropout), twice
            differentiable. Attention runs on PyTorch's plain kernel meanwhile, the only one with second derivatives.
        parameters: the tensors, any shapes, all on one device; leaves of the graph.
        tolerance: stop when the estimate's residual, and so its distance to an eigenvalue of H, is at most this
            fraction of it, after at least 20 products. The error is usually of the order of its square.
        max_iterations: most Hessian-vector products, at least 1. With fewer than 20 the iteration may settle on an
            eigenvalue that is not the largest.
        seed: of the Gaussian starting vector; torch's global generator is left alone.

    Returns:
        The estimate; value 0 for a loss that is linear in the parameters.

    Raises:
        LorateError: no parameters or no iteration, a loss that is not a scalar, does not depend on them or is not
            finite, or a Hessian that is not finite.

    >>> w = torch.tensor([1.0, 1.0], dtype=torch.float64)
    >>> round(hessian_norm(lambda: 0.5 * w[0] ** 2 - 1.5 * w[1] ** 2, [w]).value, 3)
    3.0
    """
    weights = list(parameters)  # model.parameters() can be walked through only once
    if not weights or max_iterations < 1:
        raise LorateError(
            f"hessian_norm needs at least one parameter and one iteration, got {len(weights)} and {max_iterations}."
        )
    with _differentiable(weights), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        return _iterate(_hessian_product(closure, weights), _start(weights, seed), tolerance, max_iterations)


Vector = list[Tensor]


def _iterate(product: Callable[[Vector], Vector], start: Vector, tolerance: float, limit: int) -> HessianNorm:
    """Lanczos without reorthogonalisation: lost orthogonality repeats eigenvalues, but moves none of the largest."""
    from scipy.linalg import eigh_tridiagonal  # here, because it takes longer to load than all of lorate

    diagonal: list[float] = []
    beside: list[float] = []
    before, current = [torch.zeros_like(x) for x in start], start
    for iterations in range(1, limit + 1):
        following = product(current)
        diagonal.append(_dot(following, current))
        a, b = diagonal[-1], beside[-1] if beside else 0.0
        following = [f - a * c - b * p for f, c, p in zip(following, current, before, strict=True)]
        length = _norm(following)
        values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
        largest = int(np.argmax(np.abs(values)))
        value = abs(float(values[largest]))
        residual = length * abs(float(vectors[-1, largest]))  # of the estimate as an eigenvalue of H
        enough = iterations >= min(LEAST, limit) or length <= INVARIANT * value
        if enough and residual <= tolerance * value:
            return HessianNorm(value, iterations, True)
        beside.append(length)
        before, current = current, [x / length for x in following]
    return HessianNorm(value, limit, False)


def _dot(x: Vector, y: Vector) -> float:
    return float(torch.stack([torch.sum(a.double() * b.double()) for a, b in zip(x, y, strict=True)]).sum())


def _hessian_product(closure: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Callable[[Vector], Vector]:
    loss = closure()
    if loss.ndim != 0 or not torch.isfinite(loss):
        raise LorateError(f"The closure must return a finite scalar loss, but it returned {loss.detach()!r}.")
    gradients: tuple[Tensor | None, ...] = ()
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    if all(g is None for g in gradients):
        raise LorateError("The loss does not depend on the parameters: compute it from them inside the closure.")

    def product(vector: Vector) -> Vector:
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None and g.requires_grad]
        if not pairs:  # the gradient is constant
            return [torch.zeros_like(v) for v in vector]
        outputs, directions = zip(*pairs, strict=True)
        return list(
            torch.autograd.grad(
                outputs, parameters, directions, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )

    return product


def _start(parameters: Sequence[Tensor], seed: int) -> Vector:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in parameters]
    length = _norm(drawn)
    return [x / length for x in drawn]


def _norm(vector: Vector) -> float:
    norm = float(torch.stack([torch.linalg.vector_norm(x.double()) for x in vector]).norm())
    if not norm < float("inf"):
        raise LorateError("The Hessian is not finite here: the loss is not twice differentiable, or it overflows.")
    return norm


@contextmanager
def _differentiable(parameters: Sequence[Tensor]) -> Iterator[None]:
    states = [p.requires_grad for p in parameters]
    try:
        for p in parameters:
            p.requires_grad_(True)
        yield
    finally:
        for p, state in zip(parameters, states, strict=True):
            p.requires_grad_(state)
