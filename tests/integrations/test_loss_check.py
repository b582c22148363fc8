"""The loss that was read at the model, against the one that a Trainer logs."""

import math
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.integrations.loss_check import LossCheck


def step(loss: float | None) -> Any:
    return SimpleNamespace(measurement=SimpleNamespace(loss=loss))


def reader(*needs: str) -> Any:
    rule = SimpleNamespace(name="some-rule", needs=needs)
    return SimpleNamespace(is_linear=True, optimizer=SimpleNamespace(rule=rule))


def test_the_mean_over_the_steps_since_the_last_log_is_compared_once() -> None:
    check, read = LossCheck(), reader("loss")
    assert check.add(step(1.0)) and check.add(step(3.0))
    check.compare(2.01, read)
    assert not check.add(step(1.0))
    check.compare(50.0, read)  # decided before
    assert read.is_linear


@pytest.mark.parametrize(("losses", "logged"), [([None], 5.0), ([], 5.0), ([math.nan], 5.0), ([1.0], math.nan)])
def test_what_cannot_be_compared_decides_nothing(losses: list[float | None], logged: float) -> None:
    check, read = LossCheck(), reader("loss")
    for loss in losses:
        check.add(step(loss))
    check.compare(logged, read)
    assert check.add(step(1.0))
    with pytest.raises(
        LorateError, match=r"the loss read at the model is 1, the Trainer trains on 1\.03: .* 'some-rule'"
    ):
        check.compare(1.03, read)


def test_a_rule_that_does_not_need_the_loss_is_warned_once() -> None:
    check, read = LossCheck(), reader()
    check.add(step(1.0))
    with pytest.warns(UserWarning, match="lorate records no loss from here on"):
        check.compare(2.0, read)
    assert not read.is_linear
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.compare(2.0, read)
