"""The effective rank of an update against its singular values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.scaling import effective_rank


def ratio(product: torch.Tensor) -> float:
    squares = torch.linalg.svdvals(product).square()
    return float(squares.sum() ** 2 / squares.square().sum())


@settings(deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([1e-9, 1.0, 1e9])
)
def test_it_is_that_of_the_singular_values_and_lies_between_one_and_the_rank(r, m, n, seed, size):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(r, n, dtype=torch.float64, generator=generator) * size
    B = torch.randn(m, r, dtype=torch.float64, generator=generator) @ torch.diag(10.0 ** -torch.arange(r)).double()
    found = float(effective_rank([A[None]], [B[None]]))
    assert found == pytest.approx(ratio(B @ A), rel=1e-9)
    assert 1 - 1e-9 <= found <= min(r, m, n) + 1e-9


def test_groups_count_together_and_layers_apart():
    A, B = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    whole = torch.block_diag(*(b @ a for a, b in zip(A, B, strict=True)))
    found = effective_rank([A, torch.eye(2)[None]], [B, torch.eye(2)[None]])
    assert found.tolist() == pytest.approx([ratio(whole), 2.0])


def test_a_zero_update_has_none_and_half_precision_is_computed_in_float32():
    assert effective_rank([torch.ones(1, 2, 3)], [torch.zeros(1, 4, 2)]).isnan().all()
    assert effective_rank([], []).shape == (0,)
    wide = torch.full((1, 2, 60000), 2.0, dtype=torch.float16)  # ‖A‖² overflows float16
    assert effective_rank([wide], [torch.eye(2, dtype=torch.float16)[None]]).tolist() == pytest.approx([1.0])
