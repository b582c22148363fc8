"""Exact norms of ``G = dY^T X``: through the matrix itself, or through Gram matrices of its N rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate.gradient_norm.norms import accumulation_dtype, frobenius, spectral


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
    return _gram_squares(dY, X)[0].clamp(min=0).sqrt()


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
    total = MatrixSum(dY.shape[1], X.shape[1])
    total.add(dY, X)
    return exact_norms([total])[0]


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

    def matrix(self, like: Tensor) -> Tensor:
        """G itself, ``[p, d]``, from here on kept in place of the factors; zero on ``like``'s device if empty."""
        if self._matrix is None:
            dtype = accumulation_dtype(like.dtype)
            self._matrix = torch.zeros(self.out_dim, self.in_dim, dtype=dtype, device=like.device)
            for dY, X in self._factors:
                _add_product(self._matrix, dY, X)
            self._factors = []
        return self._matrix

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """All rows of dY and X so far, or None once the matrix is kept."""
        if not self._factors:
            return None
        return torch.cat([dY for dY, _ in self._factors]), torch.cat([X for _, X in self._factors])

    def spectral_norm(self) -> Tensor:
        """``||G||_2``."""
        factors = self.factors()
        if factors is not None:
            return spectral_norm(*factors)
        assert self._matrix is not None
        return spectral(self._matrix)

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

    Padding (id -1) is dropped. Memory is at most one row a distinct token.
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

    def add(self, dY: Tensor, ids: Tensor) -> None:
        """Add one pass, with dY ``[N, dim]`` and token ids ``[N]``."""
        kept = ids >= 0
        ids, rows = ids[kept], dY[kept].to(accumulation_dtype(dY.dtype))
        if self.rows is not None:
            ids, rows = torch.cat([self.ids, ids]), torch.cat([self.rows, rows])
        self.ids, place = torch.unique(ids, return_inverse=True)
        self.rows = rows.new_zeros(len(self.ids), self.out_dim).index_add_(0, place, rows)

    def matrix(self, like: Tensor) -> Tensor:
        """G as the whole table, ``[tokens, dim]``, from here on kept; zero on ``like``'s device if empty."""
        rows = like.new_empty(0, self.out_dim) if self.rows is None else self.rows
        table = rows.new_zeros(self.in_dim, self.out_dim, dtype=accumulation_dtype(rows.dtype))
        table[self.ids.to(rows.device)] = rows
        self.ids, self.rows = torch.arange(self.in_dim, device=rows.device), table
        return table

    def spectral_norm(self) -> Tensor:
        """``||G||_2``."""
        assert self.rows is not None
        return spectral(self.rows)

    def inner_product(self, D_A: Tensor, D_B: Tensor) -> Tensor:
        r"""$\langle G, D_B D_A\rangle$ for one block each, ``[1, r, tokens]`` and ``[1, dim, r]``."""
        assert self.rows is not None
        return ((self.rows @ D_B[0]) * D_A[0][:, self.ids].mT).sum()

    def clear(self) -> None:
        """Forget everything."""
        self.rows = None
        self.ids = torch.empty(0, dtype=torch.long)


def exact_norms(totals: Sequence[MatrixSum | RowSum]) -> list[Tensor]:
    """``||G||_F`` of each sum, none of them empty, with at most one wait for the device.

    Args:
        totals: the layers' sums.

    Returns:
        One scalar a layer.
    """
    norms: list[Tensor] = []
    squares: dict[int, Tensor] = {}
    for index, total in enumerate(totals):
        factors = total.factors() if isinstance(total, MatrixSum) else None
        if factors is not None:
            squares[index] = _gram_squares(*factors)
            norms.append(squares[index][0].clamp(min=0).sqrt())
        else:
            kept = total.rows if isinstance(total, RowSum) else total._matrix
            assert kept is not None
            norms.append(frobenius(kept))
    if squares:
        device = norms[0].device
        doubtful = torch.stack([_cancels(square).to(device) for square in squares.values()]).tolist()
        for index, cancels in zip(squares, doubtful, strict=True):
            total = totals[index]
            if cancels and isinstance(total, MatrixSum):
                norms[index] = frobenius(total.matrix(like=squares[index]))
    return norms


def _matrix(dY: Tensor, X: Tensor) -> Tensor:
    dtype = accumulation_dtype(dY.dtype)
    return dY.T.to(dtype) @ X.to(dtype)


def _gram_squares(dY: Tensor, X: Tensor) -> Tensor:
    """``||G||_F^2`` and the sum of the rows' own ``||dY_n||^2 ||X_n||^2``, which is the scale of its rounding error."""
    dtype = accumulation_dtype(dY.dtype)
    dY, X = dY.to(dtype), X.to(dtype)
    products = (dY @ dY.T) * (X @ X.T)
    return torch.stack([products.sum(), products.diagonal().sum()])


def _cancels(squares: Tensor) -> Tensor:
    """Whether the Gram sum lost digits: its rounding error, about eps times the rows' own squares, would show."""
    return squares[0] < 0.01 * squares[1]


def _add_product(matrix: Tensor, dY: Tensor, X: Tensor) -> None:
    matrix.addmm_(dY.T.to(matrix.dtype), X.to(matrix.dtype))
