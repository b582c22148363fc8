r"""Over how many directions the update of a weight spreads."""

from collections.abc import Sequence

import torch
from torch import Tensor


def effective_rank(A: Sequence[Tensor], B: Sequence[Tensor]) -> Tensor:
    r"""The participation ratio of the squared singular values σ² of $BA$, for each layer.

    $$ \frac{(\sum_i \sigma_i^2)^2}{\sum_i \sigma_i^4} = \frac{(\mathrm{tr}\,M)^2}{\mathrm{tr}\,M^2},
       \qquad M = (B^T B)(A A^T) . $$

    It lies between 1 (one direction carries all) and the rank (all carry alike), and does not depend on the scaling.
    Only r×r matrices are formed, and no eigenvalue is computed.

    Args:
        A: first factors, each ``[groups, r, n]`` (see `lorate.adapters.factor_blocks`).
        B: second factors, each ``[groups, m, r]``.

    Returns:
        ``[layers]``, float64, on the factors' device; NaN where the update is zero. Groups count together.

    >>> factor = torch.diag(torch.tensor([2.0, 2.0, 0.0]))[None]
    >>> effective_rank([factor], [torch.eye(3)[None]]).tolist()
    [2.0]
    """
    first, second = [], []
    for a, b in zip(A, B, strict=True):
        a, b = (factor.float() if factor.element_size() < 4 else factor for factor in (a, b))
        product = (b.mT @ b).double() @ (a @ a.mT).double()
        first.append(product.diagonal(dim1=-2, dim2=-1).sum())
        second.append((product * product.mT).sum())
    if not first:
        return torch.zeros(0, dtype=torch.float64)
    return torch.stack(first).square() / torch.stack(second)
