"""Exact norms of ``G = dY^T X``: through the matrix itself, or through Gram matrices of its N rows."""

import torch
from torch import Tensor

from lorate.gradient_norm.norms import accumulation_dtype, frobenius, spectral

GRAM_BLOCK = 128
"""Least number of rows for which it pays to take Gram matrices in parts."""


def gram_is_cheaper(rows: int, out_dim: int, in_dim: int) -> bool:
    """Whether ``N < p d / (p + d)``.

    Below it both things hold at once: the Gram norm, ``N^2 (p + d)`` products, costs less than forming G, ``N p d``;
    and the factors, ``N (p + d)`` numbers, are smaller than G, ``p d``.

    Args:
        rows: N, rows of dY and X.
        out_dim: p, columns of dY.
        in_dim: d, columns of X.

    >>> gram_is_cheaper(2047, 4096, 4096), gram_is_cheaper(2048, 4096, 4096)
    (True, False)
    """
    return rows * (out_dim + in_dim) < out_dim * in_dim


def direct_norm(dY: Tensor, X: Tensor) -> Tensor:
    r"""``||dY^T X||_F`` by forming the matrix.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``.

    Returns:
        A scalar; float64 for float64 inputs, float32 otherwise.

    Source: the definition of G.
    """
    return frobenius(_matrix(dY, X))


def gram_norm(dY: Tensor, X: Tensor) -> Tensor:
    r"""``||dY^T X||_F`` as the root of ``<dY dY^T, X X^T>``, with N x N matrices only.

    Where the rows' contributions nearly cancel, the sum of products loses digits: `exact_norm` then falls back on
    the matrix itself.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``.

    Returns:
        A scalar; float64 for float64 inputs, float32 otherwise.

    Source: the square of ``dY^T X`` written out as an inner product of Gram matrices.
    """
    return gram_squares(dY, X)[0].clamp(min=0).sqrt()


def exact_norm(dY: Tensor, X: Tensor) -> Tensor:
    r"""``||dY^T X||_F`` by the cheaper of the two ways for these shapes.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``.

    Returns:
        A scalar; float64 for float64 inputs, float32 otherwise.

    >>> exact_norm(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0]])).round(decimals=4)
    tensor(7.0711)
    """
    if not gram_is_cheaper(dY.shape[0], dY.shape[1], X.shape[1]):
        return direct_norm(dY, X)
    square, rows = gram_squares(dY, X)
    return direct_norm(dY, X) if cancels(square, rows) else square.clamp(min=0).sqrt()


def spectral_norm(dY: Tensor, X: Tensor) -> Tensor:
    """``||dY^T X||_2``, the largest singular value, from the triangular factors of both where N is small.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``.

    Returns:
        A scalar; float64 for float64 inputs, float32 otherwise.
    """
    if not gram_is_cheaper(dY.shape[0], dY.shape[1], X.shape[1]):
        return spectral(_matrix(dY, X))
    dtype = accumulation_dtype(dY.dtype)
    triangle_Y = torch.linalg.qr(dY.T.to(dtype), mode="r").R
    triangle_X = torch.linalg.qr(X.T.to(dtype), mode="r").R
    return spectral(triangle_Y @ triangle_X.T)


def gram_squares(dY: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
    r"""Square of ``||dY^T X||_F`` through Gram matrices, and the scale of its rounding error.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``.

    Returns:
        Two scalars: ``<dY dY^T, X X^T>``, and of it the part on the diagonal, the rows' own
        ``||dY_n||^2 ||X_n||^2``.
    """
    dtype = accumulation_dtype(dY.dtype)
    dY, X = dY.to(dtype), X.to(dtype)
    square, rows = dY.new_zeros(()), dY.new_zeros(())
    # both matrices are symmetric: blocks of rows from the diagonal on, in which what lies beyond it counts twice
    size = max(len(X) // 4, GRAM_BLOCK)
    for start in range(0, len(X), size):
        block = slice(start, start + size)
        products = (dY[block] @ dY[start:].T).mul_(X[block] @ X[start:].T)
        square += products[:, :size].sum() + 2 * products[:, size:].sum()
        rows += products.diagonal().sum()
    return square, rows


def cancels(square: Tensor, rows: Tensor) -> Tensor:
    """Whether the rows nearly cancel, so that the rounding error of `gram_squares` would show.

    Args:
        square: its first result.
        rows: its second one; the error is about eps times this.

    Returns:
        A boolean scalar.
    """
    return square < 0.01 * rows


def _matrix(dY: Tensor, X: Tensor) -> Tensor:
    dtype = accumulation_dtype(dY.dtype)
    return dY.T.to(dtype) @ X.to(dtype)
