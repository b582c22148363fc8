"""Matrix norms, and the precision in which gradients are added up."""

import torch
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision in which gradients of this dtype are added up: float64 stays, everything else is float32.

    >>> accumulation_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.promote_types(dtype, torch.float32)


def frobenius(matrix: Tensor) -> Tensor:
    """Root of the sum of squares of all entries, a scalar in the accumulation precision."""
    norm: Tensor = torch.linalg.vector_norm(matrix, dtype=accumulation_dtype(matrix.dtype))
    return norm


def spectral(matrix: Tensor) -> Tensor:
    """Largest singular value of a matrix ``[m, n]``, a scalar; 0 if it has no rows."""
    if not len(matrix):
        return matrix.sum()  # torch refuses the norm of an empty matrix
    norm: Tensor = torch.linalg.matrix_norm(matrix.to(accumulation_dtype(matrix.dtype)), ord=2)
    return norm
