"""The feedback alone, on lines whose lowest point is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorate.rules.auto.control import Control


def noisy_line(
    wrong: float, noise: float = 0.0, steps: int = 400, multiplier: float = 1.0, best: float = 0.03
) -> Control:
    """Feedback on a parabola of curvature 2 with its lowest point at ``best``, with L off by a factor ``wrong``."""
    generator = torch.Generator().manual_seed(0)
    control = Control.first(1.0)
    for _ in range(steps):
        e = multiplier * control.eta
        end_slope = 2 * e * (e - best) + noise * e * float(torch.randn((), generator=generator))
        due = control.probe_is_due
        control = control.seen()
        if due:
            control = control.probed(wrong * 2 * e**2, e**2)
        control = control.followed(end_slope, promised=-2 * best * e, squared_length=e**2, multiplier=multiplier)
    return control


@pytest.mark.parametrize("wrong", [0.3, 1.0, 10.0])
def test_the_balance_does_not_depend_on_the_curvature(wrong):
    assert noisy_line(wrong, steps=3000).eta == pytest.approx(0.03, rel=1e-3)


def test_noise_of_the_slope_does_not_move_the_balance():
    etas = [noisy_line(1.0, noise=0.06, steps=steps).eta for steps in range(600, 1600, 10)]
    assert math.exp(sum(math.log(eta) for eta in etas) / len(etas)) == pytest.approx(0.03, rel=0.15)


def test_a_multiplier_is_not_worked_against():
    # with half steps the line's lowest point lies at twice the step; eta stays where full steps would have put it
    assert noisy_line(1.0, multiplier=0.5, steps=3000).eta == pytest.approx(0.03, rel=1e-3)


def test_signal_fraction_is_true_slope_over_promised_slope():
    control = noisy_line(1.0)
    assert control.signal_fraction == pytest.approx(1.0, rel=1e-6)
    half = control
    for _ in range(200):
        half = half.seen().followed(0.0, promised=-4 * 2 * half.eta**2, squared_length=half.eta**2, multiplier=1.0)
    assert half.signal_fraction == pytest.approx(0.25, rel=1e-3)


def test_first_step_has_the_same_length_whatever_the_direction():
    assert Control.first(1.0).eta == 1e-4
    assert Control.first(50.0).eta * 50 == pytest.approx(1e-4)
    assert Control.first(0.0).eta == 1e-4


def test_the_step_doubles_until_a_curvature_is_seen():
    control = Control.first(1.0).seen().probed(-1.0, 1.0)
    assert control.smoothness is None
    assert control.followed(1.0, -1.0, 1.0, 1.0).eta == 2e-4


def test_one_step_changes_eta_by_at_most_its_gain():
    control = Control(0.1, steps=100, smoothness=1.0, end_squares=1e20, weight=1.0)
    assert control.gain == 0.05
    for slope in (-1e11, 1e10):
        new = control.followed(slope, -1.0, 1.0, 1.0).eta
        assert abs(math.log(new / control.eta)) <= 0.05 + 1e-12
        assert new != control.eta


def test_an_overshoot_beyond_the_noise_halves_the_step():
    control = Control(0.1, steps=100, smoothness=1.0, end_squares=1.0, weight=1.0)
    assert control.followed(4.9, -1.0, 1.0, 1.0).eta > 0.09
    halved = control.followed(5.1, -1.0, 1.0, 1.0)
    assert halved.eta == pytest.approx(0.05)
    assert halved.overshoots == 1


def test_gain_falls_as_one_over_t_to_a_floor():
    gains = [Control(1.0, steps=t).gain for t in (1, 5, 10, 50, 100, 1000)]
    assert gains == [1.0, 1.0, 0.5, 0.1, 0.05, 0.05]


@pytest.mark.parametrize(("steps", "most"), [(20, 20), (200, 50), (500, 80)])
def test_probes_become_rare(steps, most):
    control, count = Control.first(1.0), 0
    for _ in range(steps):
        due = control.probe_is_due
        control = control.seen()
        if due:
            control, count = control.probed(1.0, 1.0), count + 1
    assert most - 10 <= count <= most
    assert control.probes == count


def test_a_line_that_bends_down_does_not_erase_what_is_known():
    control = Control(0.1).seen().probed(1.0, 2.0)
    assert control.smoothness == 0.5
    down = control.seen().probed(-100.0, 2.0)
    assert down.smoothness == 0.5
    assert down.followed(-1.0, -1.0, 1.0, 1.0).eta != 2 * down.eta


def test_noise_lowers_the_gain():
    quiet = Control(0.1, steps=50, smoothness=1.0, end_squares=0.01, weight=1.0)
    loud = Control(0.1, steps=50, smoothness=1.0, end_squares=100.0, weight=1.0)
    changes = [math.log(control.followed(-0.5, -1.0, 1.0, 1.0).eta / 0.1) for control in (quiet, loud)]
    assert changes[0] == pytest.approx(0.1 * 0.5)
    assert 0 < changes[1] < 0.1 * changes[0] * 1.2


def test_a_worthless_probe_is_counted_and_changes_no_curvature():
    control = Control(0.1, steps=7, smoothness=0.5, second_differences=1.0, squared_lengths=2.0)
    after = control.probed(None, 3.0)
    assert (after.discarded, after.probes, after.last_probe, after.smoothness) == (1, 0, 7, 0.5)


def test_a_step_taken_back_quarters_eta_and_forgets_the_curvature():
    after = Control(0.4, smoothness=0.5).taken_back()
    assert (after.eta, after.smoothness) == (0.1, None)


@given(
    st.floats(1e-6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 0),
    st.floats(0, 1e6),
    st.floats(0, 2),
    st.integers(1, 10_000),
)
def test_eta_stays_finite_and_positive(eta, end, promised, length, multiplier, steps):
    control = Control(eta, steps=steps, smoothness=1.0)
    after = control.followed(end, promised, length, multiplier)
    assert 0 < after.eta < math.inf
    assert after.signal_fraction is None or 0 <= after.signal_fraction <= 1
