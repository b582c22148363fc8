"""Numbers read off runs: powers are found exactly, runs that are not far enough are not judged."""

import math
from typing import Any

import numpy as np
import pytest

from lorate_papers.training.measures import exponent, falling_exponent, final_losses, least_since_peak, sign, steps_to

STEPS = np.arange(1.0, 1001.0)


def run_of(values: np.ndarray) -> dict[str, Any]:
    return {"trace": {"step": STEPS.tolist(), "grad_sq": values.tolist(), "sum_eta": (STEPS**2).tolist()}}


def test_powers_are_found() -> None:
    run = run_of(3 * STEPS**-0.7)
    assert exponent(run, "grad_sq", 300) == pytest.approx(-0.7)
    assert exponent(run, "grad_sq", 1, against="sum_eta") == pytest.approx(-0.35)
    assert math.isnan(exponent(run, "grad_sq", 999)) and falling_exponent(run, "grad_sq") == pytest.approx(-0.7)


def test_the_fall_is_judged_after_the_peak_and_before_rounding() -> None:
    rise_and_fall = np.where(STEPS < 100, 1e-3 * STEPS, 0.1 * (STEPS / 100) ** -2.0)
    assert falling_exponent(run_of(rise_and_fall), "grad_sq") == pytest.approx(-2)
    late = np.where(STEPS < 900, 1e-3 * STEPS, 1.0)
    assert math.isnan(falling_exponent(run_of(late), "grad_sq")), "the peak is not behind it"
    noise = np.maximum(STEPS**-2.0, 1e-4) * (1 + 0.5 * np.sin(STEPS))
    assert falling_exponent(run_of(noise), "grad_sq", floor=1e-4) < -1.2 < falling_exponent(run_of(noise), "grad_sq")
    assert math.isnan(falling_exponent(run_of(np.full(1000, math.nan)), "grad_sq")), "nothing is known"
    assert falling_exponent(run_of(np.where(STEPS < 3, 1.0, 1e-9)), "grad_sq", floor=1e-4) < -5
    sudden = np.where(STEPS < 300, STEPS, 1e-9)
    assert falling_exponent(run_of(sudden), "grad_sq", floor=1e-4) == -math.inf


def test_small_readings() -> None:
    assert least_since_peak(np.array([1.0, 9.0, 3.0, 5.0, 2.0])).tolist() == [1, 9, 3, 3, 2]
    run = {"trace": {"step": [1, 5, 9], "loss": [3.0, None, 1.0]}}
    assert steps_to(run, 2) == 9 and steps_to(run, 0.5) == math.inf
    assert final_losses([{"final_loss": 2}, {"final_loss": None}]) == [2, math.inf]


def test_a_sign_takes_two_standard_errors() -> None:
    assert [sign(mean, 1.0) for mean in (2.1, 1.9, 1.1, -1.9, -2.1)] == [True, None, None, None, False]
