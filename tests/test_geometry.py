"""Gram algebra against dense matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.geometry import (
    displacement_gram,
    inner_products,
    largest_eigenvalues,
    squared_norms,
    squared_spectral_norms,
)


@settings(deadline=None, max_examples=60)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7), st.integers(1, 4)), min_size=1, max_size=5
    ),
    repeat=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    log_scale=st.floats(-3, 3),
    zero_B=st.booleans(),
)
def test_gram_equals_dense(
    shapes: list[tuple[int, int, int, int]], repeat: int, seed: int, log_scale: float, zero_B: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layers = [
        (draw(g, r, n), (0 if zero_B else 1) * draw(g, m, r), draw(g, r, n), draw(g, m, r))
        for g, m, n, r in shapes * repeat
    ]
    scaling = [10**log_scale * (1 + i) for i in range(len(layers))]
    A, B, D_A, D_B = zip(*layers, strict=True)
    gram = displacement_gram(A, B, D_A, D_B, scaling)
    eta = 0.37
    for i, (a, b, d_a, d_b) in enumerate(layers):
        P = scaling[i] * (d_b @ a + b @ d_a)
        Q = scaling[i] * d_b @ d_a
        size = float(P.square().sum() + Q.square().sum())
        assert abs(gram.pp[i] - P.square().sum()) <= 1e-10 * size
        assert abs(gram.pq[i] - (P * Q).sum()) <= 1e-10 * size
        assert abs(gram.qq[i] - Q.square().sum()) <= 1e-10 * size
        moved = scaling[i] * ((b + eta * d_b) @ (a + eta * d_a) - b @ a)
        assert (
            abs(eta**2 * gram.pp[i] + 2 * eta**3 * gram.pq[i] + eta**4 * gram.qq[i] - moved.square().sum())
            <= 1e-10 * size
        )


def test_gram_never_forms_the_matrix() -> None:
    n = 40_000  # an n by n matrix would take 13 GB
    A, B, D_A, D_B = (torch.randn(1, *shape, dtype=torch.float64) for shape in ((2, n), (n, 2), (2, n), (n, 2)))
    gram = displacement_gram([A], [B], [D_A], [D_B], [1.0])
    assert gram.qq.item() == pytest.approx(((D_B.mT @ D_B) * (D_A @ D_A.mT)).sum().item())


def test_low_precision_is_accumulated_in_float32() -> None:
    x = torch.full((1, 2, 5000), 0.1, dtype=torch.bfloat16)
    exact = float(x.double().square().sum())
    assert squared_norms([x]).item() == pytest.approx(exact, rel=1e-4)
    gram = displacement_gram([x], [x.mT], [x], [x.mT], [1.0])
    assert gram.pp.dtype == torch.float32
    assert gram.qq.item() == pytest.approx(float((x.double() @ x.double().mT).square().sum()), rel=1e-4)


def test_norms_of_nothing() -> None:
    assert squared_norms([]).shape == (0,)
    assert inner_products([], []).shape == squared_spectral_norms([]).shape == (0,)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    log_size=st.floats(-10, 10),
    decay=st.floats(0, 3),
)
def test_spectral_norms_are_bounded_from_above_and_closely(
    seed: int, shape: tuple[int, int, int], log_size: float, decay: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(*shape, generator=generator, dtype=torch.float64) * 10**log_size
    block *= torch.arange(1, shape[2] + 1) ** -decay  # from flat to steep spectra
    truth = torch.linalg.matrix_norm(block, ord=2).square().max().item()
    for precise, rounding in ((block, 1e-12), (block.float(), 1e-5)):
        other = torch.zeros_like(precise)
        bound, nothing = squared_spectral_norms([precise, other]).tolist()
        assert truth * (1 - rounding) <= bound <= truth * (1 + 1e-3 + rounding)
        assert nothing == 0.0


def test_eigenvalues_of_equal_size_are_the_worst_case() -> None:
    assert largest_eigenvalues(torch.eye(64, dtype=torch.float64)).item() == pytest.approx(64 ** (1 / 4096), rel=1e-9)


def test_inner_products_accumulate_low_precision() -> None:
    x, y = torch.full((5000,), 0.1, dtype=torch.bfloat16), torch.full((5000,), 0.3, dtype=torch.bfloat16)
    exact = float((x.double() * y.double()).sum())
    assert inner_products([x, y], [y, x]).tolist() == pytest.approx([exact, exact], rel=1e-5)
