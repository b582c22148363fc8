"""Each threshold of the alarms, from both sides: a line that moves one of them fails here."""

import math
from typing import Any

import pytest

from lorate.monitor import History
from lorate.monitor.checks import diverging, growing, stalled, stuck_at_origin


def record(step: int, **changes: Any) -> dict[str, Any]:
    values = {
        "step": step, "loss": 1.0, "eta": 1.0, "stacked_norm": 1.0, "a_norm": 1.0, "b_norm": 1.0,
        "scaled_grad_norm": 1e-2, "sum_eta": float(step),
    }  # fmt: skip
    return {**values, **changes}


def history(records: list[dict[str, Any]]) -> History:
    found = History()
    for one in records:
        found.add(one)
    return found


@pytest.mark.parametrize(("share", "speaks"), [(0.9, True), (1.1, False)])
def test_stalled_below_a_thousandth_of_the_loss_in_fifty_steps(share: float, speaks: bool) -> None:
    gradient = math.sqrt(share * 1e-3 / 50)  # 50 steps of eta 1 promise share * 1e-3 of the loss
    assert (stalled(history([record(i, scaled_grad_norm=gradient) for i in range(1, 61)])) is not None) == speaks


@pytest.mark.parametrize(("share", "speaks"), [(0.21, True), (0.19, False)])
def test_stalled_only_while_the_gradient_keeps_a_fifth_of_its_length(share: float, speaks: bool) -> None:
    steps = [record(1, scaled_grad_norm=1e-4), *(record(i, scaled_grad_norm=share * 1e-4) for i in range(2, 61))]
    assert (stalled(history(steps)) is not None) == speaks


@pytest.mark.parametrize(("rise", "speaks"), [(0.21, True), (0.19, False), (0.05, False)])
def test_diverging_above_a_fifth_of_the_best_level(rise: float, speaks: bool) -> None:
    losses = [1.0] * 20 + [1.0 + rise] * 20  # no noise: the level alone decides
    assert (diverging(history([record(i, loss=loss) for i, loss in enumerate(losses, 1)])) is not None) == speaks


@pytest.mark.parametrize(("jump", "speaks"), [(5.1, True), (4.9, False)])
def test_diverging_where_one_step_makes_the_adapters_five_times_longer(jump: float, speaks: bool) -> None:
    assert (diverging(history([record(1), record(2, stacked_norm=jump)])) is not None) == speaks


@pytest.mark.parametrize(("fall", "speaks"), [(0.004, True), (0.006, False)])
def test_stuck_until_the_loss_has_fallen_by_half_a_percent(fall: float, speaks: bool) -> None:
    steps = [record(1), *(record(i, loss=1 - fall, b_norm=1e-4) for i in range(2, 31))]
    assert (stuck_at_origin(history(steps)) is not None) == speaks


@pytest.mark.parametrize(("final", "speaks"), [(3.2, True), (2.8, False)])
def test_growing_from_three_times_the_first_norm(final: float, speaks: bool) -> None:
    steps = [record(i, stacked_norm=1 + (final - 1) * i / 300) for i in range(1, 301)]
    assert (growing(history(steps)) is not None) == speaks
