"""Second differences of a loss along a line, from its values and from its slopes."""

import math
from dataclasses import dataclass

import pytest
import torch

from lorate.optim.look_back import rounding_unit
from lorate.rules.auto.probe import agree, by_slopes, by_values
from lorate.rules.auto.rule import Auto


@dataclass
class Line:
    """A last line: a parabola of the share that is taken back; curvature and end slope are those of the whole."""

    curvature: float = 3.0
    end_slope: float = -1.0
    level: float = 2.0
    loss_unit: float = 1e-16
    shows_slopes: bool = True
    differentiated: int = 0

    def loss_before(self, share: float = 1.0) -> float:
        return self.level - self.end_slope * share + self.curvature / 2 * share**2

    def slope_before(self) -> tuple[float, float]:
        self.differentiated += 1
        return self.loss_before(), self.end_slope - self.curvature


@pytest.mark.parametrize("curvature", [-2.0, 0.5, 3.0])
def test_values_and_slopes_find_the_curvature_of_a_parabola(curvature):
    line = Line(curvature)
    assert by_values(line, line.loss_before(0.0), line.loss_before()) == pytest.approx(curvature)
    assert by_slopes(line, line.slope_before()[1]) == pytest.approx(curvature)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_makes_a_probe_worthless(bad):
    assert by_values(Line(), 2.0, bad) is None
    assert by_slopes(Line(), bad) is None


def test_differences_below_rounding_make_a_probe_worthless():
    unit = rounding_unit(torch.bfloat16)

    def probe(before: float, slope: float) -> float | None:
        return by_values(Line(end_slope=slope, loss_unit=unit), 2.0, before)

    assert probe(2.0 + 3.9 * unit * 2, -3.9 * unit * 2) is None
    assert probe(2.0 + 4.1 * unit * 2, -3.9 * unit * 2) is not None
    assert probe(2.0, -4.1 * unit * 2) is not None
    line = Line(end_slope=-1.0, loss_unit=unit)
    assert by_slopes(line, -1 + 15.9 * unit) is None and by_slopes(line, -1 + 16.1 * unit) is not None


def test_values_do_once_they_agreed_with_slopes_three_times():
    rule, line = Auto(), Line()
    for _ in range(5):
        assert rule._second_difference(line, line.loss_before(0.0)) == pytest.approx(3.0)
    assert line.differentiated == 3


def test_values_that_do_not_show_the_slopes_are_never_used():
    """As of GRPO's ratio to its own detached probabilities, which is 1 everywhere."""

    class Detached(Line):
        def loss_before(self, share: float = 1.0) -> float:
            return self.level

    rule, line = Auto(), Detached()
    for _ in range(5):
        assert rule._second_difference(line, 2.0) == pytest.approx(3.0)
    assert line.differentiated == 5 and rule.agreements == 0
    assert not agree(by_values(line, 2.0, 2.0), 3.0)


def test_slopes_that_cannot_be_had_are_not_asked():
    rule, line = Auto(), Line(shows_slopes=False)
    assert rule._second_difference(line, line.loss_before(0.0)) == pytest.approx(3.0)
    assert line.differentiated == 0


def test_coarser_dtypes_have_larger_units():
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    units = [rounding_unit(dtype) for dtype in dtypes]
    assert units == sorted(units)
