"""The rule that tries steps, without a model."""

import numpy as np
import pytest

from lorate.measurement import Displacement, Measurement
from lorate.rules.backtracking import first_smoothness


def measurement(V_sq: float, D_sq: float, slope: float = -2.0, pp: float = 4.0) -> Measurement:
    one = np.ones(1)
    d = Displacement(slope * one, pp * one, 0 * one, one, 0 * one, D_sq / 2 * one, D_sq / 2 * one, one)
    return Measurement(one, V_sq / 2 * one, V_sq / 2 * one, one, one, loss=1.0, displacement=d)


@pytest.mark.parametrize(("V_sq", "D_sq"), [(1.0, 1.0), (1e-4, 9.0), (100.0, 1e-2)])
def test_the_first_step_is_as_long_as_the_adapters(V_sq: float, D_sq: float) -> None:
    m = measurement(V_sq, D_sq)
    eta = 2.0 / (first_smoothness(m) * 4.0)  # the step to first order, -slope / (L‖P‖²)
    assert eta * D_sq**0.5 == pytest.approx(V_sq**0.5)


def test_layers_that_do_not_descend_set_no_scale() -> None:
    assert first_smoothness(measurement(1.0, 1.0, slope=1.0)) == 0.0
    assert first_smoothness(measurement(0.0, 1.0)) == 0.0
