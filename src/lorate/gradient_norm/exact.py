"""The exact norm of ``G = dY^T X`` through Gram matrices of its N rows, where that is cheaper than forming G."""

from torch import Tensor

from lorate.gradient_norm.norms import accumulation_dtype

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


def gram_squares(dY: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
    r"""Square of ``||dY^T X||_F`` for dY ``[N, p]`` and X ``[N, d]``, and the scale of its rounding error.

    Returns:
        Two scalars: ``<dY dY^T, X X^T>``, and of it the diagonal, the rows' own ``||dY_n||^2 ||X_n||^2``.
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
    """Whether the rows nearly cancel: the rounding error of `gram_squares`, about eps times ``rows``, would show."""
    return square < 0.01 * rows
