"""Gradients added up over passes, in the smaller of their forms."""

import pytest
import torch

from lorate.gradient_norm.sums import RowSum, quick_norms


@pytest.mark.parametrize("passes", [1, 4])
def test_rows_of_an_embedding_with_padding(passes: int) -> None:
    """Whatever the number of passes, no more rows are kept than the table has, and one for the padding."""
    generator = torch.Generator().manual_seed(0)
    total, table = RowSum(out_dim=3, in_dim=5), torch.zeros(5, 3, dtype=torch.float64)
    for _ in range(passes):
        ids = torch.tensor([4, -1, 1, 1, -1, 0])
        dY = torch.randn(6, 3, dtype=torch.float64, generator=generator)
        total.add(dY, ids)
        for row, token in zip(dY, ids.tolist(), strict=True):
            if token >= 0:
                table[token] += row
        assert total.rows is not None and len(total.rows) <= 6
    D_A, D_B = torch.randn(1, 2, 5, dtype=torch.float64), torch.randn(1, 3, 2, dtype=torch.float64)
    expected = (table.T * (D_B[0] @ D_A[0])).sum()
    for _ in range(2):  # as rows, and as the whole table
        (norm,), doubts = quick_norms([total])
        assert doubts is None
        torch.testing.assert_close(norm, table.norm())
        torch.testing.assert_close(total.inner_product(D_A, D_B), expected)
        torch.testing.assert_close(total.matrix(like=table), table)
    total.add(dY, ids)
    torch.testing.assert_close(total.matrix(like=table)[0], table[0] + dY[5])


def test_a_table_that_no_pass_has_reached() -> None:
    total = RowSum(out_dim=3, in_dim=5)
    assert total.is_empty
    assert torch.equal(total.matrix(like=torch.ones(1)), torch.zeros(5, 3))
