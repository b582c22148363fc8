"""Best alpha, exponent and interval, on losses whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorate.errors import LorateError
from lorate.scaling.power_law import best_alpha, fit_scaling

GRID = [2.0**k for k in range(2, 14)]


def bowl(
    best: float, grid: list[float] = GRID, seeds: int = 1, noise: float = 0.0, rng: Any = None
) -> dict[float, list[float]]:
    """A parabola in log alpha with noise that is partly common to a seed."""
    random = rng or np.random.default_rng(0)
    common = noise * random.normal(size=seeds)
    return {
        a: [2 + 0.03 * math.log(a / best) ** 2 + common[k] + 0.1 * noise * random.normal() for k in range(seeds)]
        for a in grid
    }


@given(st.floats(5, 8000), st.lists(st.floats(1.05, 4), min_size=7, max_size=12))
def test_a_parabola_is_found_exactly_on_any_grid(best: float, ratios: list[float]) -> None:
    grid = [float(a) for a in 4 * np.cumprod([1.0, *ratios])]
    found = best_alpha(bowl(best, grid))
    assert found is not None
    nearest = min(grid, key=lambda a: abs(math.log(a / best)))
    assert found.at_edge == (nearest in (grid[0], grid[-1]))
    assert found.alpha == pytest.approx(nearest if found.at_edge else best, rel=1e-4)


def test_divergence_beside_the_best_leaves_the_point_of_the_grid() -> None:
    found = best_alpha({8: [2.1], 16: [2.0], 32: [None]})
    assert found is not None and found.alpha == 16 and not found.at_edge
    assert best_alpha({8: [None, 2.0], 16: [math.nan, 1.0]}) is None  # one seed of each diverged
    flat = best_alpha({8: [2.0], 16: [2.0], 32: [2.0]})
    assert flat is not None and flat.alpha == 8 and flat.at_edge


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_an_exact_law_is_recovered(exponent: float) -> None:
    fit = fit_scaling({r: bowl(30 * r**exponent) for r in (1, 4, 16, 64)})
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.coefficient == pytest.approx(30)
    assert fit.interval == pytest.approx((exponent, exponent), abs=1e-6)
    assert fit.contains_half is (exponent == 0.5)
    if exponent == 0.5:
        assert fit.c == pytest.approx(30) and fit.c_interval == pytest.approx((30, 30))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    inside = inside_c = 0
    for trial in range(60):
        losses = {
            r: bowl(200 * r**0.5 * math.exp(0.2 * rng.normal()), seeds=1, noise=0.02, rng=rng)
            for r in (1, 4, 8, 16, 64)
        }
        fit = fit_scaling(losses, seed=trial)
        inside += bool(fit.contains_half)
        inside_c += fit.c_interval[0] <= 200 <= fit.c_interval[1]
    assert 52 <= inside <= 60 and 52 <= inside_c <= 60


def test_noise_of_the_seeds_widens_the_interval() -> None:
    quiet, loud = (
        fit_scaling({r: bowl(40 * r**0.5, seeds=3, noise=noise) for r in (1, 4, 16, 64)}) for noise in (0.0, 0.2)
    )
    assert quiet.interval is not None and loud.interval is not None
    assert loud.interval[1] - loud.interval[0] > quiet.interval[1] - quiet.interval[0] + 0.01
    seeds_only = fit_scaling({1: bowl(40, seeds=3, noise=0.2), 16: bowl(160, seeds=3, noise=0.2)})
    assert seeds_only.c_interval[0] < seeds_only.c < seeds_only.c_interval[1]


def test_two_ranks_give_a_line_but_no_interval() -> None:
    fit = fit_scaling({4: bowl(40), 16: bowl(80)})
    assert fit.exponent == pytest.approx(0.5) and fit.interval is None and fit.contains_half is None


def test_ranks_at_the_edge_do_not_bend_the_line() -> None:
    losses = {r: bowl(30 * r**0.5) for r in (1, 4, 16)} | {1024: bowl(1e9)}
    fit = fit_scaling(losses)
    assert fit.exponent == pytest.approx(0.5) and fit.best[1024].at_edge


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({8: bowl(30)}, "at least two ranks, got 8"),
        ({}, "at least two ranks, got none"),
        ({4: bowl(30), 8: {16: [1.0]}}, "at least two to choose from, rank 8 has 16"),
        ({4: {8: [None], 16: [None]}, 8: {8: [None], 16: [None]}}, "every run of the sweep diverged"),
        ({4: bowl(30), 8: bowl(1e9), 16: bowl(1e9)}, r"all ranks but 1 \(alpha 8192 at rank 8, .*try alphas beyond"),
        ({4: {8: [None], 16: [None]}, 8: bowl(30)}, r"every run of rank 4 diverged"),
        ({4: {8: [None], 16: [None]}, 8: bowl(30), 16: bowl(1e9)}, r"at rank 16.*every run of rank 4 diverged"),
        ({4: {8: [2.0, 1.0], 16: [1.0], 32: [2.0]}, 8: bowl(30)}, r"the same seeds, their numbers are \[1, 2\]"),
    ],
)  # fmt: skip
def test_sweeps_that_say_nothing(losses: Any, message: str) -> None:
    with pytest.raises(LorateError, match=message):
        fit_scaling(losses)
