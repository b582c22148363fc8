"""Rules as pure functions of a measurement."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorate.descent import majorizer_change
from lorate.errors import LorateError
from lorate.measurement import Displacement, Measurement
from lorate.rules import RULES, Majorizer, OneFactor, Rule, Sharp, make_rule
from lorate.rules.majorizer import terms_of_step

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
    sizes = make_rule(name, 3.0 if name == "theory" else None).step_sizes(measurement())
    assert sizes.eta == pytest.approx(eta)
    expected = [1.0, 1.0] if name == "constant" else [eta / 2, eta / 0.5]
    np.testing.assert_allclose(sizes.layers, expected)
    assert sizes.rest == pytest.approx(eta)


@given(smoothness=positive)
def test_theory_holds_its_cap(smoothness: float) -> None:
    rule = make_rule("theory", smoothness)
    tiny = measurement(A_sq=np.zeros(2), B_sq=np.zeros(2), weight_grad_sq=np.full(2, 1e-30))
    assert rule.step_sizes(tiny).eta == 1.0
    with_rest = measurement(
        A_sq=np.zeros(2), B_sq=np.zeros(2), weight_grad_sq=np.full(2, 1e-30), has_rest=True, rest_grad_sq=1e-30
    )
    assert rule.step_sizes(with_rest).eta == pytest.approx(min(1.0, 1.5 / max(smoothness, 1)))


@pytest.mark.parametrize("smoothness", [1e-3, 0.1, 1.0])
def test_theory_treats_small_smoothness_as_one(smoothness: float) -> None:
    assert (
        make_rule("theory", smoothness).step_sizes(measurement()).eta
        == make_rule("theory", 1.0).step_sizes(measurement()).eta
    )


@pytest.mark.parametrize("name", ["adaptive", "adaptive-loss", "normalized"])
def test_no_step_at_a_stationary_point(name: str) -> None:
    zero = np.zeros(2)
    still = measurement(A_sq=zero, B_sq=zero, A_grad_sq=zero, B_grad_sq=zero, weight_grad_sq=zero, loss=0.0)
    assert make_rule(name).step_sizes(still).eta == 0.0


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
    rule = make_rule(name, 2.0 if name == "theory" else None)
    np.testing.assert_allclose(rule.step_sizes(other).layers * c, rule.step_sizes(m).layers, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sharpest",), "unknown rule 'sharpest'; known: auto, constant, theory"),
        (("theory",), "needs the smoothness L"),
        (("theory", 0.0), "positive finite number, got 0.0"),
        (("theory", math.nan), "got nan"),
        (("theory", torch.tensor(5.0)), r"got tensor\(5.\): give a Python float"),
        (("theory", np.float32(5.0)), r"got np.float32\(5.0\)"),
        (("normalized", 1.0), "does not use smoothness"),
    ],
)
def test_bad_rules(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        make_rule(*arguments)  # type: ignore[arg-type]


def test_adaptive_loss_wants_a_loss_that_is_not_negative() -> None:
    with pytest.raises(LorateError, match=r"needs the loss: call optimizer.step\(loss=loss\)"):
        make_rule("adaptive-loss").step_sizes(measurement(loss=None))
    with pytest.raises(LorateError, match=r"never negative, got -2"):
        make_rule("adaptive-loss").step_sizes(measurement(loss=-2.0))


def displacement(**changes: object) -> Displacement:
    values = {name: np.array([1.0, 2.0]) for name in ("pp", "pq", "qq", "gradient_q", "A_sq", "B_sq")}
    return Displacement(**{"slope": np.array([-1.0, -3.0]), "unit": np.array([0.5, 2.0]), **values, **changes})


def test_sharp_formula() -> None:
    m = measurement(A_spectral_sq=np.array([0.5, 4.0]), B_spectral_sq=np.array([1.0, 0.0]))
    a = np.array([4 * 3 * 1.5 + 2 * math.sqrt(3), 0.25 * 3 * 4 + 0.5 * 1])
    sizes = Sharp(3.0).step_sizes(m)
    np.testing.assert_allclose(sizes.layers, 1 / a)
    assert sizes.guarantee == pytest.approx(np.sum([8.0, 1.5] / a) / 2)
    assert sizes.eta * GRAD**2 == pytest.approx(2 * sizes.guarantee)
    whole = Sharp(3.0, per_layer=False).step_sizes(m)
    assert whole.eta == pytest.approx(min(2 / a[0], 0.5 / a[1]))
    np.testing.assert_allclose(whole.layers, whole.eta / m.scaling)


def test_sharp_prefers_the_spectral_norm_of_G_and_caps_the_rest() -> None:
    m = measurement(A_spectral_sq=np.ones(2), B_spectral_sq=np.ones(2), rest_grad_sq=2.0, has_rest=True)
    closer = measurement(
        A_spectral_sq=np.ones(2), B_spectral_sq=np.ones(2), rest_grad_sq=2.0, weight_grad_bound=np.full(2, 0.1)
    )
    assert (Sharp(3.0).step_sizes(closer).layers > Sharp(3.0).step_sizes(m).layers).all()
    assert Sharp(4.0).step_sizes(m).rest == 0.25
    assert Sharp(1e-9, per_layer=False).step_sizes(m).rest < 1.0


@pytest.mark.parametrize("rule", [Sharp(2.0), Sharp(2.0, per_layer=False), OneFactor(2.0)])
def test_layers_without_gradient_do_not_move(rule: Rule) -> None:
    zero = np.zeros(2)
    still = measurement(
        A_sq=zero,
        B_sq=zero,
        A_grad_sq=zero,
        B_grad_sq=zero,
        weight_grad_sq=zero,
        A_spectral_sq=zero,
        B_spectral_sq=zero,
    )
    sizes = rule.step_sizes(still)
    assert sizes.eta == sizes.guarantee == 0.0 and not sizes.layers.any()


def test_majorizer_minimises_its_bound() -> None:
    m = measurement(displacement=displacement(rest_slope=-1.0, rest_sq=2.0))
    each, whole = Majorizer(2.0), Majorizer(2.0, per_layer=False)
    assert each.step_sizes(m).guarantee >= whole.step_sizes(m).guarantee > 0
    assert each.step_sizes(m).rest == pytest.approx(1 / (2.0 * 2.0))
    sizes = whole.step_sizes(m)
    np.testing.assert_allclose(sizes.layers, sizes.eta * np.array([0.5, 2.0]))
    for factor in (0.99, 1.01):
        terms = terms_of_step(m, sizes, factor)
        assert -majorizer_change(1.0, *terms, 2.0) < sizes.guarantee


def test_majorizer_counts_what_stands_still() -> None:
    m = measurement(displacement=displacement(slope=np.array([1.0, -1.0])))
    sizes = Majorizer(1.0).step_sizes(m)
    assert sizes.standing == 1 and sizes.layers[0] == 0 < sizes.layers[1]


def test_backtracking_needs_no_smoothness() -> None:
    assert make_rule("backtracking").needs == {"displacement", "closure"}
    with pytest.raises(LorateError, match="positive finite number"):
        make_rule("backtracking", -1.0)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_describes_itself(name: str) -> None:
    rule = RULES[name]
    for attribute in ("name", "formula", "guarantee", "use_when"):
        assert getattr(rule, attribute, ""), f"rule {name!r} has no {attribute}: one line, shown in tables"
    assert rule.__doc__ and "Source:" in rule.__doc__, f"rule {name!r} names no source in its docstring"


@pytest.mark.parametrize("name", RULES)
def test_the_advice_names_every_rule(name: str) -> None:
    advice = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    assert f"`{name}`" in advice, f"docs/rules.md does not say when to take rule {name!r}: add a row"
