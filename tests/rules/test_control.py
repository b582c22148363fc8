"""The feedback alone, on lines whose lowest point is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorate.rules.auto.control import FIRST_LENGTH, Control

BEST = 0.03


def on_a_valley(steps: int, noise: float = 0.0, best: float = BEST, multiplier: float = 1.0) -> list[float]:
    """Step sizes where the slope in log eta vanishes at ``best``, with noise that grows with the step as it does."""
    generator = torch.Generator().manual_seed(0)
    control, etas = Control.first(1.0), []
    for _ in range(steps):
        e = multiplier * control.eta
        slope = 2 * e * (e - best) + noise * e * float(torch.randn((), generator=generator))
        control = control.followed(slope, slope, multiplier)
        etas.append(control.eta)
    return etas


def test_it_settles_where_the_slope_of_the_average_vanishes() -> None:
    assert on_a_valley(3000)[-1] == pytest.approx(BEST, rel=0.05)


@pytest.mark.parametrize("best", [1e-4, 1e-3, 1e-2, 1e-1])
def test_it_is_near_in_25_steps_over_three_decades(best: float) -> None:
    etas = on_a_valley(40, best=best)
    assert best / 2 < etas[25] < 2 * best, etas


def test_noise_of_the_slope_does_not_move_the_balance() -> None:
    etas = on_a_valley(4000, noise=0.06)[1000:]
    assert math.exp(sum(map(math.log, etas)) / len(etas)) == pytest.approx(BEST, rel=0.25)


def test_it_follows_a_valley_that_moves_late() -> None:
    control, best = Control.first(1.0), BEST
    for step in range(3000):
        if step == 2000:
            best = BEST / 10
        slope = control.eta * (control.eta - best)
        control = control.followed(slope, 0.0, 1.0)
    assert control.eta == pytest.approx(BEST / 10, rel=0.1)


def test_a_schedule_that_falls_is_not_worked_against() -> None:
    control = Control.first(1.0)
    for _ in range(200):
        control = control.followed(control.eta - BEST, 0.0, 1.0)
    before = control.eta
    for step in range(200):
        control = control.followed(-1.0, 0.0, 1 - step / 200)
    assert control.eta == pytest.approx(before, rel=0.05)  # one step at the top is followed, the others are not


def test_a_schedule_that_falls_from_the_first_step_does_not_end_the_way_up() -> None:
    control = Control.first(1.0)
    for step in range(60):
        multiplier = 1 - step / 300
        length = multiplier * control.eta
        control = control.followed(length - BEST, 0.0, multiplier)
    assert multiplier * control.eta == pytest.approx(BEST, rel=0.2)


def test_a_schedule_that_halves_early_is_not_worked_against() -> None:
    control = Control.first(1.0)
    for _ in range(10):
        control = control.followed(-1.0, 0.0, 1.0)
    assert control.followed(-1.0, 0.0, 0.5).eta == control.eta < control.followed(-1.0, 0.0, 0.51).eta


def test_while_a_schedule_rises_it_is_followed() -> None:
    control = Control.first(1.0)
    for step in range(1, 11):
        control = control.followed(-1.0, 0.0, step / 10)
    assert control.eta > 50 * FIRST_LENGTH


def test_first_step_has_the_same_length_whatever_the_direction() -> None:
    assert Control.first(1.0).eta == FIRST_LENGTH
    assert Control.first(50.0).eta * 50 == pytest.approx(FIRST_LENGTH)


def test_the_first_slope_counts() -> None:
    assert Control.first(1.0).followed(2.0, 2.0, 1.0).eta < Control.first(1.0).eta * 1.05
    assert Control.first(1.0).followed(-2.0, -2.0, 1.0).eta == pytest.approx(FIRST_LENGTH * math.exp(0.5))


def test_without_a_gradient_nothing_is_concluded() -> None:
    control = Control.first(1.0)
    for _ in range(1300):
        control = control.followed(0.0, 0.0, 1.0)
    assert control == Control.first(1.0)


def test_one_step_changes_eta_by_at_most_its_gain() -> None:
    control = Control(0.1, steps=1000, average_squares=1e20, end_squares=1e30, weight=1.0)
    assert control.gain == 0.03
    for slope in (-1e11, 1e10):
        new = control.followed(slope, slope, 1.0).eta
        assert abs(math.log(new / control.eta)) <= 0.03 + 1e-12
        assert new != control.eta


def test_an_overshoot_far_beyond_the_noise_halves_the_step() -> None:
    control = Control(0.1, steps=100, average_squares=1.0, end_squares=100.0, weight=1.0)  # usual: 1
    assert control.followed(1.0, 7.9, 1.0).eta > 0.09
    halved = control.followed(1.0, 8.1, 1.0)
    assert halved.eta == pytest.approx(0.05)
    assert halved.overshoots == 1
    # after the step size has grown a longer slope is usual
    grown = Control(0.2, steps=100, average_squares=1.0, end_squares=100.0, weight=1.0)
    assert grown.followed(1.0, 8.1, 1.0).overshoots == 0


def test_where_no_slope_was_usual_none_is_too_long() -> None:
    control = Control(0.1, steps=100, average_squares=1.0, end_squares=0.0, weight=1.0)
    assert control.followed(1.0, 1e-3, 1.0).overshoots == 0


def test_so_does_a_slope_of_the_average() -> None:
    control = Control(0.1, steps=100, average_squares=1.0, end_squares=1e4, weight=1.0)  # usual: 1
    assert control.followed(7.9, 1.0, 1.0).overshoots == 0
    halved = control.followed(8.1, 1.0, 1.0)
    assert halved.overshoots == 1 and halved.eta == pytest.approx(0.05)


@pytest.mark.parametrize("spike", [-1e4, 1e4])
def test_one_batch_does_not_hide_those_after_it(spike: float) -> None:
    """Its square would fill the mean for fifty steps, and slopes of the usual size would count as none."""
    control = Control(0.1, steps=100, average_squares=1.0, end_squares=100.0, weight=1.0)
    after = control.followed(spike, spike, 1.0)
    assert after.followed(1.0, 1.0, 1.0).slope == pytest.approx(1 / math.sqrt(0.1 + 0.9 * (0.9 + 0.1 * 64)))
    assert after.end_squares == pytest.approx(0.9 * 100 + 0.1 * 6400)


def test_gain_falls_as_one_over_t_to_a_floor() -> None:
    gains = [Control(1.0, steps=t - 1).gain for t in (1, 6, 10, 50, 100, 1000)]
    assert gains == [0.5, 0.5, 0.3, 0.06, 0.03, 0.03]


def test_a_step_taken_back_quarters_eta() -> None:
    after = Control(0.4).taken_back()
    assert (after.eta, after.overshoots) == (0.1, 1)


def test_the_aim_fades_with_the_steps_and_faster_with_slopes_that_are_above_it() -> None:
    assert Control(0.1, steps=9).aim == 0.5  # 10 / (10 + 10)
    assert Control(0.1, steps=9, uphill=4).aim == 0.1  # 10 / (10 + 10 + 4 * 20)
    control = Control(0.1, steps=9, average_squares=1.0, end_squares=100.0, weight=1.0)
    below, slightly, far = (control.followed(c, 1.0, 1.0) for c in (0.4, 0.8, 3.0))
    assert below.slope is not None and below.slope < control.aim and below.uphill == 0
    assert slightly.slope is not None and slightly.uphill == pytest.approx(slightly.slope - 0.5)
    assert far.slope is not None and far.slope > 2 and far.uphill == 1  # no slope counts more than once
    assert far.followed(-9.0, 0.0, 1.0).uphill == 1  # and what was seen stays


def test_after_the_rise_a_weak_slope_uphill_is_enough_to_come_down() -> None:
    """Without that evidence the aim would let most of it pass: 0.51 of the top would be left, not 0.32."""
    generator = torch.Generator().manual_seed(0)
    control = Control.first(1.0)
    for _ in range(15):
        control = control.followed(-1.0, -1.0, 1.0)
    top = control.eta
    for _ in range(45):
        control = control.followed(0.7 + float(torch.randn((), generator=generator)), 0.0, 1.0)
    assert control.eta < 0.4 * top


@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 2), st.integers(0, 10_000))
def test_eta_stays_finite_and_positive(eta: float, c: float, q: float, multiplier: float, steps: int) -> None:
    after = Control(eta, steps=steps).followed(c, q, multiplier)
    assert 0 < after.eta < math.inf
    assert after.slope is None or abs(after.slope) <= 4


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_the_scale_of_the_loss_cancels(c: float, q: float, scale: float) -> None:
    first = Control(0.1, steps=5, average_squares=1.0, end_squares=1.0, weight=0.4)
    other = Control(0.1, steps=5, average_squares=scale**2, end_squares=scale**2, weight=0.4)
    if c and c * scale:
        assert other.followed(scale * c, scale * q, 1.0).eta == pytest.approx(first.followed(c, q, 1.0).eta)
