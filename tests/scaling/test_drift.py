"""Signal and drift against dense matrices."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorate.scaling import signal_and_drift


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 7), st.integers(1, 6),
    st.floats(0.01, 50), st.floats(-6, 2),
)  # fmt: skip
def test_the_parts_are_those_of_the_dense_change(
    seed: int, groups: int, r: int, m: int, n: int, s: float, size: float
) -> None:
    A0, B0 = normal(seed, groups, r, n), normal(seed + 1, groups, m, r)
    A, B = A0 + 10**size * normal(seed + 2, groups, r, n), B0 + 10**size * normal(seed + 3, groups, m, r)
    split = signal_and_drift([A0], [B0], [A], [B], [s])
    signal = s * ((B - B0) @ A0 + B0 @ (A - A0))
    drift = s * (B - B0) @ (A - A0)
    torch.testing.assert_close(signal + drift, s * (B @ A - B0 @ A0))
    assert float(split.signal_sq) == pytest.approx(float(signal.square().sum()), rel=1e-8)
    assert float(split.drift_sq) == pytest.approx(float(drift.square().sum()), rel=1e-8)
    assert split.ratio == pytest.approx(float(drift.norm() / signal.norm()), rel=1e-8)


def test_layers_are_kept_apart_and_alpha_does_not_enter_the_ratio() -> None:
    A0, B0 = [normal(1, 1, 2, 5), normal(2, 1, 3, 4)], [normal(3, 1, 6, 2), normal(4, 1, 4, 3)]
    A, B = [a + 1 for a in A0], [b - 0.5 for b in B0]
    one, other = (signal_and_drift(A0, B0, A, B, [s, s]) for s in (1.0, 32.0))
    alone = signal_and_drift(A0[1:], B0[1:], A[1:], B[1:], [1.0])
    assert float(one.signal_sq[1]) == pytest.approx(float(alone.signal_sq[0]))
    assert float(one.drift_sq[1]) == pytest.approx(float(alone.drift_sq[0]))
    assert one.ratio == pytest.approx(other.ratio)
    assert float(other.signal_sq[0]) == pytest.approx(32**2 * float(one.signal_sq[0]))


def test_nothing_moved() -> None:
    A, B = [normal(1, 1, 2, 5)], [normal(2, 1, 4, 2)]
    split = signal_and_drift(A, B, A, B, [2.0])
    assert split.signal_sq.tolist() == [0.0] and split.drift_sq.tolist() == [0.0] and math.isnan(split.ratio)


def test_small_moves_of_bfloat16_factors_are_taken_in_float32() -> None:
    A0, B0 = normal(1, 1, 4, 30).bfloat16(), normal(2, 1, 20, 4).bfloat16()
    A, B = (A0.float() * 1.01).bfloat16(), (B0.float() * 0.98).bfloat16()
    split = signal_and_drift([A0], [B0], [A], [B], [1.0])
    a, b, a0, b0 = (x.double() for x in (A, B, A0, B0))
    signal = (b - b0) @ a0 + b0 @ (a - a0)
    assert float(split.signal_sq.sqrt()) == pytest.approx(float(signal.norm()), rel=1e-5)
    assert float(split.drift_sq.sqrt()) == pytest.approx(float(((b - b0) @ (a - a0)).norm()), rel=1e-5)
