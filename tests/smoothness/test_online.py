import math

import numpy as np
import pytest

from lorate.descent import majorizer_change, majorizer_step_size, required_smoothness
from lorate.errors import LorateError
from lorate.smoothness import TrialSmoothness


def backtrack(start: float, steps: int) -> tuple[np.ndarray, TrialSmoothness, int]:
    """The rule that keeps L, on L = 2 least squares of a rank-2 layer; losses, the state, and the evaluations used."""
    rng = np.random.default_rng(0)
    A, B, C = rng.standard_normal((2, 4)), np.zeros((5, 2)), rng.standard_normal((5, 4))

    def loss(A: np.ndarray, B: np.ndarray) -> float:
        return float(np.sum((B @ A - C) ** 2))

    smoothness, losses, evaluations = TrialSmoothness(start), [loss(A, B)], 0
    for _ in range(steps):
        G = 2 * (B @ A - C)
        D_A, D_B = -B.T @ G, -G @ A.T
        P, Q = D_B @ A + B @ D_A, D_B @ D_A
        geometry = (-np.sum(D_A**2) - np.sum(D_B**2), np.sum(G * Q), np.sum(P**2), np.sum(P * Q), np.sum(Q**2))
        smoothness.relax()
        while True:
            eta = majorizer_step_size(*geometry, smoothness.value)
            after = loss(A + eta * D_A, B + eta * D_B)
            evaluations += 1
            rounding = 1e-15 * losses[-1]
            if smoothness.accepts(float(required_smoothness(after - losses[-1], eta, *geometry, rounding))):
                break
        assert after - losses[-1] <= majorizer_change(eta, *geometry, smoothness.value) + 2 * rounding
        A, B = A + eta * D_A, B + eta * D_B
        losses.append(after)
    return np.array(losses), smoothness, evaluations


@pytest.mark.parametrize("start", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_any_start_descends_and_finds_the_curvature(start: float) -> None:
    losses, smoothness, evaluations = backtrack(start, 300)
    assert np.all(np.diff(losses) <= 2e-15 * losses[0])
    # the curvature of the loss is 2 in every direction, so every trial shows it until rounding hides it
    assert smoothness.observed == pytest.approx(2.0, rel=1e-3)
    assert losses[-1] < 0.3 * losses[0]
    assert evaluations < 2.5 * 300


def test_refusals_raise_l_enough_and_diverged_trials_more() -> None:
    smoothness = TrialSmoothness(1.0)
    assert not smoothness.accepts(1.0001)
    assert smoothness.value == pytest.approx(1.5)
    assert not smoothness.accepts(math.inf)
    assert smoothness.value == pytest.approx(1.5**5)
    assert smoothness.observed == 1.0001
    assert smoothness.accepts(0.0)


def test_bad_values_are_refused() -> None:
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LorateError, match="positive finite"):
            TrialSmoothness(value)
    with pytest.raises(LorateError, match="decay"):
        TrialSmoothness(1.0, decay=0.0)
    with pytest.raises(LorateError, match="growth"):
        TrialSmoothness(1.0, growth=1.0)
    with pytest.raises(LorateError, match="not a number"):
        TrialSmoothness(1.0).accepts(math.nan)
    smoothness = TrialSmoothness(1e308)
    with pytest.raises(LorateError, match="No L"):
        smoothness.accepts(math.inf)
    assert smoothness.value == 1e308
