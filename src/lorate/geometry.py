r"""Lengths of adapters, and of what a displacement of the factors does to the weights.

A displacement (D_A, D_B) moves the weight of a layer by a quadratic in the step size,

$$ W(\eta) - W = \eta P + \eta^2 Q, \qquad P = s (D_B A + B D_A), \qquad Q = s D_B D_A . $$

Their lengths follow from r×r Gram matrices at O((m + n) r²) per layer; no m×n matrix is formed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def squared_norms(tensors: Sequence[Tensor], *, wide: bool = False) -> Tensor:
    """Squared Frobenius norm of each tensor, accumulated in float32 at least.

    Args:
        tensors: any shapes, all on one device; may be empty.
        wide: accumulate in float64: the square of a float32 above 1.8e19 has no place in float32.

    Returns:
        float64, ``[len(tensors)]``, on their device.

    >>> squared_norms([torch.ones(2, 2), torch.full((4,), 2.0)]).tolist()
    [4.0, 16.0]
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.float64)
    precise = torch.float64 if wide or any(t.dtype == torch.float64 for t in tensors) else torch.float32
    norms = torch._foreach_norm(list(tensors), 2, dtype=precise)
    return torch.stack(norms).double().square()


def inner_products(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Inner product of each tensor with its partner of the same shape, as precise as `squared_norms`.

    >>> inner_products([torch.ones(2, 3)], [torch.full((2, 3), 2.0)]).tolist()
    [12.0]
    """
    if not left:
        return torch.zeros(0, dtype=torch.float64)
    products = torch._foreach_mul([_precise(x) for x in left], [_precise(y) for y in right])
    return torch.stack([product.sum() for product in products]).double()


def squared_spectral_norms(blocks: Sequence[Tensor]) -> Tensor:
    r"""The largest $\|\cdot\|_2^2$ of each stack of matrices ``[groups, a, b]``, as `largest_eigenvalues` bounds it.

    >>> squared_spectral_norms([torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])]).round(decimals=2)
    tensor([16.], dtype=torch.float64)
    """
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, block in enumerate(blocks):
        by_shape[tuple(block.shape)].append(index)
    result: list[Tensor] = [torch.empty(0)] * len(blocks)
    for (_, a, b), indices in by_shape.items():
        stack = _precise(torch.stack([blocks[i] for i in indices]))
        gram = stack @ stack.mT if a <= b else stack.mT @ stack
        # no indexing by lists: copying them to a GPU would wait for it
        for index, value in zip(indices, largest_eigenvalues(gram).amax(dim=-1).unbind(), strict=True):
            result[index] = value
    return torch.stack(result) if result else torch.zeros(0, dtype=torch.float64)


def largest_eigenvalues(gram: Tensor, squarings: int = 12) -> Tensor:
    r"""Largest eigenvalue of positive semi-definite matrices, from above and without waiting for the device.

    $$ \lambda_{\max}(M) \le \bigl(\mathrm{tr}\,M^{2^k}\bigr)^{1/2^k} \le r^{1/2^k}\lambda_{\max}(M) $$

    by k squarings, each divided by its trace. An eigenvalue routine would synchronise a GPU with the host.

    Args:
        gram: symmetric, ``[..., r, r]``.
        squarings: k; with 12 the bound is at most 0.11% above the eigenvalue for r up to 64.

    Returns:
        The bound in float64, ``[...]``; 0 for a zero matrix.
    """
    logarithm, power = torch.zeros(gram.shape[:-2], dtype=torch.float64, device=gram.device), gram
    for k in range(squarings + 1):
        trace = power.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        logarithm = logarithm + trace.double().log() / 2**k
        scaled = power / torch.where(trace == 0, 1.0, trace)[..., None, None]
        power = scaled @ scaled
    return logarithm.exp()


@dataclass(frozen=True)
class DisplacementGram:
    r"""Inner products of the first and second order parts of a displacement, one value per layer.

    Attributes:
        pp: $\|P\|^2$, shape ``[layers]``.
        pq: $\langle P, Q \rangle$, shape ``[layers]``.
        qq: $\|Q\|^2$, shape ``[layers]``.
    """

    pp: Tensor
    pq: Tensor
    qq: Tensor


def displacement_gram(
    A: Sequence[Tensor], B: Sequence[Tensor], D_A: Sequence[Tensor], D_B: Sequence[Tensor], scaling: Sequence[float]
) -> DisplacementGram:
    r"""Gram algebra of a displacement, batched over layers of one shape.

    With the elementwise inner product $\langle X, Y \rangle$,

    $$ \begin{aligned} \|P\|^2 &= s^2 (\langle D_B^T D_B, A A^T \rangle + 2 \langle D_B^T B, A D_A^T \rangle
                   + \langle B^T B, D_A D_A^T \rangle) \\
        \langle P, Q \rangle &= s^2 (\langle D_B^T D_B, A D_A^T \rangle + \langle B^T D_B, D_A D_A^T \rangle) \\
        \|Q\|^2 &= s^2 \langle D_B^T D_B, D_A D_A^T \rangle . \end{aligned} $$

    Args:
        A: first factors, each ``[groups, r, n]`` (see `lorate.adapters.factor_blocks`).
        B: second factors, each ``[groups, m, r]``.
        D_A: displacements of A, same shapes.
        D_B: displacements of B, same shapes.
        scaling: s of each layer.

    Returns:
        One value per layer, float32 at least (float64 for float64 factors).
    """
    by_shape: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for layer, (a, b) in enumerate(zip(A, B, strict=True)):
        by_shape[tuple(a.shape), tuple(b.shape)].append(layer)
    columns: list[Tensor] = [torch.empty(0)] * len(A)
    for layers in by_shape.values():
        # stacked first: a GPU is kept waiting by many small kernels
        rows = torch.cat([torch.stack([factors[i] for i in layers]) for factors in (A, D_A)], dim=-2)
        both = torch.cat([torch.stack([factors[i] for i in layers]) for factors in (B, D_B)], dim=-1)
        for i, column in zip(layers, _contract(_precise(rows), _precise(both)).unbind(dim=1), strict=True):
            columns[i] = column
    if not columns:
        return DisplacementGram(*torch.zeros(3, 0, dtype=torch.float64))
    # numbers, not a tensor of them: copying one to a GPU would wait for it
    scaled = torch._foreach_mul(columns, [s**2 for s in scaling])
    return DisplacementGram(*torch.stack(scaled, dim=1))


def _contract(rows: Tensor, columns: Tensor) -> Tensor:
    """``(pp, pq, qq)`` without s², shape ``[3, layers]``, of [A; D_A] ``[layers, groups, 2r, n]`` and [B, D_B]."""
    r = rows.shape[-2] // 2
    outer, inner = rows @ rows.mT, columns.mT @ columns
    AA, AD, DD = outer[..., :r, :r], outer[..., :r, r:], outer[..., r:, r:]
    bb, bd, dd = inner[..., :r, :r], inner[..., :r, r:], inner[..., r:, r:]
    pp = dd * AA + 2 * bd.mT * AD + bb * DD
    pq = dd * AD + bd * DD
    return torch.stack((pp, pq, dd * DD)).sum(dim=(-3, -2, -1))


def _precise(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
