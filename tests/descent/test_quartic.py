import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize_scalar

from lorate.descent import evaluate_quartic, minimise_quartic
from lorate.errors import LorateError

from .lora_problems import SEEDS, power_of_ten


def coefficients(seed: int, count: int, spread: float) -> np.ndarray:
    """Slopes below zero, leading coefficients above; the middle of any sign, each sometimes zero."""
    rng = np.random.default_rng(seed)
    c = power_of_ten(rng, -spread, spread, (4, count)) * rng.choice([-1.0, 1.0], (4, count))
    c[1:3, :][rng.random((2, count)) < 0.15] = 0.0
    c[0], c[3] = -np.abs(c[0]), np.abs(c[3])
    return c


def companion_minimum(c: np.ndarray) -> float:
    """Least value at the positive real roots that numpy finds."""
    roots = np.roots([4 * c[3], 3 * c[2], 2 * c[1], c[0]])
    real = roots[np.abs(roots.imag) <= 1e-6 * np.abs(roots)].real
    return float(min(evaluate_quartic(c, x) for x in real[real > 0]))


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_value_equals_that_of_numpy_roots(seed: int) -> None:
    c = coefficients(seed, 300, 2.0)
    ours = evaluate_quartic(c, minimise_quartic(c))
    theirs = np.array([companion_minimum(column) for column in c.T])
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_no_bounded_search_of_scipy_finds_less(seed: int) -> None:
    c = coefficients(seed, 40, 2.0)
    x = minimise_quartic(c)
    for column, point in zip(c.T, x, strict=True):
        least = float(evaluate_quartic(column, point))
        for bound in (1.5 * point, 10 * point, 1e3 * point):
            found = minimize_scalar(
                lambda t, k=column: float(evaluate_quartic(k, t)), bounds=(0, bound), method="bounded"
            )
            assert least <= found.fun + 1e-9 * abs(least)
        found = minimize_scalar(
            lambda t, k=column: float(evaluate_quartic(k, t)),
            bounds=(0.5 * point, 1.5 * point),
            method="bounded",
            options={"xatol": 1e-6 * point},  # it is absolute, and its default is longer than the smallest points
        )
        assert found.fun == pytest.approx(least, rel=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_global_minimum_over_a_fine_grid_of_any_magnitude(seed: int) -> None:
    c = coefficients(seed, 1000, 12.0)
    x = minimise_quartic(c)
    assert np.all(np.isfinite(x) & (x > 0))
    least = evaluate_quartic(c, x)
    grid = np.concatenate([np.logspace(-40, 40, 161), 1 + np.logspace(-6, 0, 13), 1 - np.logspace(-6, -1, 11)])
    with np.errstate(over="ignore"):
        values = evaluate_quartic(c[..., None], x[:, None] * grid)
    assert np.all(least <= values.min(axis=1) + 1e-12 * np.abs(least))
    # stationary: the four terms of the derivative cancel
    terms = c * np.array([1, 2, 3, 4])[:, None] * x ** np.arange(4)[:, None]
    assert np.all(np.abs(terms.sum(0)) <= 1e-9 * np.abs(terms).max(0))


def test_two_minima_the_lower_one_wins() -> None:
    # derivative 12 (x - 1)(x - 2)(x - t): minima at 1 and t, the second lower for large t
    for t, best in ((2.5, 1.0), (4.0, 4.0)):
        polynomial = 12 * np.poly([1.0, 2.0, t])  # x³ first
        c = polynomial[::-1] / np.array([1, 2, 3, 4])
        assert minimise_quartic(c) == pytest.approx(best)


def test_limits() -> None:
    assert minimise_quartic([-1.0, 0.0, 0.0, 0.0]) == np.inf  # a line
    assert minimise_quartic([-1.0, -1.0, 0.0, 0.0]) == np.inf
    assert minimise_quartic([-1.0, 1.0, 0.0, -1e-9]) == np.inf  # falls further out
    assert minimise_quartic([0.0, -1.0, 0.0, 1.0]) == 0.0  # no slope, no step
    assert minimise_quartic([0.5, -1.0, 0.0, 1.0]) == 0.0
    assert minimise_quartic([-1.0, 0.5, 0.0, 1e-300]) == pytest.approx(1.0)
    assert minimise_quartic([-1e-200, 0.0, 0.0, 1e-200]) == pytest.approx(0.25 ** (1 / 3))
    assert minimise_quartic([-1.0, 0.0, 1.0, 0.0]) == pytest.approx(3**-0.5)
    assert minimise_quartic([-1.0, -1.0, 0.0, 1e-30]) == pytest.approx(0.5**0.5 * 1e15)
    assert minimise_quartic(np.zeros((4, 0))).shape == (0,)
    assert minimise_quartic(-np.ones((4, 2, 3))).shape == (2, 3)
    with pytest.raises(LorateError, match="four coefficients"):
        minimise_quartic([1.0, 2.0])
    with pytest.raises(LorateError, match="finite"):
        minimise_quartic([np.nan, 1.0, 1.0, 1.0])
