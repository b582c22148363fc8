"""Rules as pure functions of a measurement."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rates import RATES, make_rate

positive = st.floats(1e-6, 1e6)


def measurement(**changes: object) -> Measurement:
    values: dict[str, object] = {
        "scaling": np.array([2.0, 0.5]),
        "A_sq": np.array([1.0, 4.0]),
        "B_sq": np.array([2.0, 0.0]),
        "A_grad_sq": np.array([0.0, 0.5]),
        "B_grad_sq": np.array([8.0, 1.0]),
        "loss": 9.0,
        "weight_grad_sq": np.array([3.0, 1.0]),
    }
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


V_SQ = 2 * 3 + 0.5 * 4  # the stacked norm, weighted with s
GRAD = math.sqrt(8 / 2 + 1.5 / 0.5)


@pytest.mark.parametrize(
    ("name", "eta"),
    [
        ("constant", 1.0),
        ("theory", 1 / (4 * math.sqrt(2) * 3 * (V_SQ + 2))),
        ("adaptive", 1 / (V_SQ + 2)),
        ("adaptive-loss", 1 / (V_SQ + 3)),
        ("normalized", 1 / math.sqrt(GRAD)),
    ],
)
def test_formula(name: str, eta: float) -> None:
    sizes = make_rate(name, 3.0 if name == "theory" else None).step_sizes(measurement())
    assert sizes.eta == pytest.approx(eta)
    expected = [1.0, 1.0] if name == "constant" else [eta / 2, eta / 0.5]
    np.testing.assert_allclose(sizes.layers, expected)
    assert sizes.rest == pytest.approx(eta)


@given(smoothness=positive)
def test_theory_holds_its_cap(smoothness: float) -> None:
    rate = make_rate("theory", smoothness)
    tiny = measurement(A_sq=np.zeros(2), B_sq=np.zeros(2), weight_grad_sq=np.full(2, 1e-30))
    assert rate.step_sizes(tiny).eta == 1.0
    with_rest = measurement(
        A_sq=np.zeros(2), B_sq=np.zeros(2), weight_grad_sq=np.full(2, 1e-30), has_rest=True, rest_grad_sq=1e-30
    )
    assert rate.step_sizes(with_rest).eta == pytest.approx(min(1.0, 1.5 / max(smoothness, 1)))


@pytest.mark.parametrize("smoothness", [1e-3, 0.1, 1.0])
def test_theory_treats_small_smoothness_as_one(smoothness: float) -> None:
    assert (
        make_rate("theory", smoothness).step_sizes(measurement()).eta
        == make_rate("theory", 1.0).step_sizes(measurement()).eta
    )


@pytest.mark.parametrize("name", ["adaptive", "adaptive-loss", "normalized"])
def test_no_step_at_a_stationary_point(name: str) -> None:
    zero = np.zeros(2)
    still = measurement(A_sq=zero, B_sq=zero, A_grad_sq=zero, B_grad_sq=zero, weight_grad_sq=zero, loss=0.0)
    assert make_rate(name).step_sizes(still).eta == 0.0


@given(c=st.floats(1e-3, 1e3), name=st.sampled_from(["adaptive", "adaptive-loss", "normalized", "theory"]))
def test_step_in_weights_does_not_depend_on_the_split_of_s(c: float, name: str) -> None:
    """s·c with factors·c^(-1/2): gradients grow by √c, so η_l must shrink by c for the same relative move."""
    m = measurement()
    other = measurement(
        scaling=m.scaling * c,
        A_sq=m.A_sq / c,
        B_sq=m.B_sq / c,
        A_grad_sq=m.A_grad_sq * c,
        B_grad_sq=m.B_grad_sq * c,
    )
    rate = make_rate(name, 2.0 if name == "theory" else None)
    np.testing.assert_allclose(rate.step_sizes(other).layers * c, rate.step_sizes(m).layers, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sharpest",), "unknown rate 'sharpest'; known: constant, theory"),
        (("theory",), "needs the smoothness L"),
        (("theory", 0.0), "positive finite number, got 0.0"),
        (("theory", math.nan), "got nan"),
        (("normalized", 1.0), "does not use smoothness"),
    ],
)
def test_bad_rules(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        make_rate(*arguments)  # type: ignore[arg-type]


def test_adaptive_loss_wants_a_loss_that_is_not_negative() -> None:
    with pytest.raises(LorateError, match=r"needs the loss: call optimizer.step\(loss=loss\)"):
        make_rate("adaptive-loss").step_sizes(measurement(loss=None))
    with pytest.raises(LorateError, match=r"never negative, got -2"):
        make_rate("adaptive-loss").step_sizes(measurement(loss=-2.0))


def test_every_rule_describes_itself() -> None:
    for name, rate in RATES.items():
        assert rate.name == name
        assert rate.formula and rate.guarantee and rate.use_when
