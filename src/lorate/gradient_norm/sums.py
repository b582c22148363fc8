"""Gradients ``G = dY^T X`` added up over backward passes, each kept in the smaller of its forms."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate.gradient_norm.exact import cancels, gram_is_cheaper, gram_squares
from lorate.gradient_norm.norms import accumulation_dtype


class MatrixSum:
    """The sum of ``dY_i^T X_i`` over backward passes, kept as factors while these are smaller than the matrix."""

    def __init__(self, out_dim: int, in_dim: int) -> None:
        self.out_dim = out_dim
        self.in_dim = in_dim
        self._factors: list[tuple[Tensor, Tensor]] = []
        self._matrix: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no pass was added."""
        return self._matrix is None and not self._factors

    def add(self, dY: Tensor, X: Tensor) -> None:
        """Add one pass, with dY ``[N, p]`` and X ``[N, d]``."""
        rows = sum(len(x) for _, x in self._factors) + len(X)
        if self._matrix is None and gram_is_cheaper(rows, self.out_dim, self.in_dim):
            # copies: both may be views of buffers that the model or the data loader writes to again
            self._factors.append((dY.clone(), X.clone()))
        else:
            _add_product(self.matrix(like=dY), dY, X)

    @property
    def formed(self) -> Tensor | None:
        """G, if it is kept as a matrix."""
        return self._matrix

    def matrix(self, like: Tensor) -> Tensor:
        """G itself, ``[p, d]``, from here on kept instead of the factors; zero on ``like``'s device if empty."""
        if self._matrix is None:
            dtype = accumulation_dtype(like.dtype)
            self._matrix = torch.zeros(self.out_dim, self.in_dim, dtype=dtype, device=like.device)
            for dY, X in self._factors:
                _add_product(self._matrix, dY, X)
            self._factors = []
        return self._matrix

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """All rows of dY and X so far, or None once the matrix is kept."""
        if len(self._factors) > 1:
            self._factors = [(torch.cat([dY for dY, _ in self._factors]), torch.cat([X for _, X in self._factors]))]
        return self._factors[0] if self._factors else None

    def inner_product(self, D_A: Tensor, D_B: Tensor) -> Tensor:
        r"""$\langle G, D_B D_A\rangle$ for blocks ``[groups, r, d]`` and ``[groups, p / groups, r]``."""
        factors = self.factors()
        if factors is None:
            assert self._matrix is not None
            blocks = self._matrix.view(len(D_B), -1, self.in_dim)
            return ((blocks @ D_A.mT) * D_B).sum()
        dY, X = (rows.to(D_A.dtype) for rows in factors)
        blocks = dY.view(len(dY), len(D_B), -1).transpose(0, 1)
        return ((blocks @ D_B) * (X @ D_A.mT)).sum()

    def clear(self) -> None:
        """Forget everything."""
        self._factors, self._matrix = [], None


class RowSum:
    """G of an embedding: the gradient rows of the tokens that occurred, added by token id.

    Padding (id -1) is dropped. Memory is one row a token of the passes, at most the whole table. All sizes are known
    beforehand: a GPU need not be asked how many tokens were distinct, and rows that are left over have id -1.
    """

    def __init__(self, out_dim: int, in_dim: int) -> None:
        self.out_dim = out_dim
        self.in_dim = in_dim
        self.ids = torch.empty(0, dtype=torch.long)
        self.rows: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no pass was added."""
        return self.rows is None

    @property
    def formed(self) -> Tensor | None:
        """The rows of G that are not zero."""
        return self.rows

    def add(self, dY: Tensor, ids: Tensor) -> None:
        """Add one pass, with dY ``[N, dim]`` and token ids ``[N]``."""
        rows = dY.to(accumulation_dtype(dY.dtype))
        if self.rows is not None:
            ids, rows = torch.cat([self.ids, ids]), torch.cat([self.rows, rows])
        ordered, order = ids.sort()
        place = torch.empty_like(order)
        place[order] = torch.cat([ordered.new_zeros(1), (ordered.diff() != 0).cumsum(0)])
        count = min(len(ids), self.in_dim + 1)
        self.ids = ids.new_full((count,), -1).scatter_(0, place, ids)
        self.rows = rows.new_zeros(count, self.out_dim).index_add_(0, place, rows)
        self.rows.masked_fill_((self.ids < 0).unsqueeze(1), 0)

    def matrix(self, like: Tensor) -> Tensor:
        """G as the whole table, ``[tokens, dim]``, from here on kept; zero on ``like``'s device if empty."""
        # not like.new_empty: the table is whole even where the factor is sharded
        empty = torch.empty(0, self.out_dim, dtype=like.dtype, device=like.device)
        rows = empty if self.rows is None else self.rows
        table = rows.new_zeros(self.in_dim, self.out_dim, dtype=accumulation_dtype(rows.dtype))
        table.index_add_(0, self.ids.to(rows.device).clamp(min=0), rows.to(table.dtype))
        self.ids, self.rows = torch.arange(self.in_dim, device=rows.device), table
        return table

    def inner_product(self, D_A: Tensor, D_B: Tensor) -> Tensor:
        r"""$\langle G, D_B D_A\rangle$ for one block each, ``[1, r, tokens]`` and ``[1, dim, r]``."""
        assert self.rows is not None
        return ((self.rows @ D_B[0]) * D_A[0][:, self.ids.clamp(min=0)].mT).sum()

    def clear(self) -> None:
        """Forget everything."""
        self.rows = None
        self.ids = torch.empty(0, dtype=torch.long)


def quick_norms(totals: Sequence[MatrixSum | RowSum]) -> tuple[list[Tensor], list[Tensor] | None]:
    """``||G||_F`` of each layer's sum, none of them empty, without waiting for the device.

    Returns:
        Two scalars per layer: the norm, and a boolean that is true where rounding spoiled it: form the matrix
        there (`MatrixSum.matrix`), and ask again. None instead of the booleans if no norm came from Gram matrices.
    """
    factors = [total.factors() if isinstance(total, MatrixSum) else None for total in totals]
    formed = [total.formed for total in totals if total.formed is not None]
    direct = iter(torch._foreach_norm(formed) if formed else ())
    norms: list[Tensor] = []
    doubts: list[Tensor] = []
    for pair in factors:
        if pair is None:
            norms.append(next(direct))
            doubts.append(torch.zeros_like(norms[-1], dtype=torch.bool))
        else:
            square, rows = gram_squares(*pair)
            norms.append(square.clamp(min=0).sqrt())
            doubts.append(cancels(square, rows))
    return norms, None if len(formed) == len(totals) else doubts


def _add_product(matrix: Tensor, dY: Tensor, X: Tensor) -> None:
    matrix.addmm_(dY.T.to(matrix.dtype), X.to(matrix.dtype))
