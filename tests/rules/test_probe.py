"""Second differences from evaluations of a loss along a line."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from lorate.optim.look_back import rounding_unit
from lorate.rules.auto.probe import second_difference


@dataclass
class Line:
    """A last line that a function of the share stands for."""

    loss_before_share: Callable[[float], float]
    end_slope: float = -1.0
    part: float | None = None
    loss_unit: float = 1e-16

    def loss_before(self, share: float = 1.0) -> float:
        return self.loss_before_share(share)


def parabola(share: float, curvature: float = 3.0, slope: float = -1.0, level: float = 2.0) -> float:
    """Loss with a share of the displacement taken back; curvature and end slope are those of the whole displacement."""
    return level - slope * share + curvature / 2 * share**2


@pytest.mark.parametrize("curvature", [-2.0, 0.5, 3.0])
def test_both_probes_find_the_curvature_of_a_parabola(curvature):
    def evaluate(share):
        return parabola(share, curvature)

    assert second_difference(Line(evaluate), evaluate(0.0)) == pytest.approx(curvature)
    assert second_difference(Line(evaluate, part=2.0), 2.0) == pytest.approx(curvature)


def test_a_micro_batch_is_put_on_the_scale_of_the_whole():
    assert second_difference(Line(lambda share: 0.25 * parabola(share), part=0.5), 2.0) == pytest.approx(3.0)


def test_a_micro_batch_without_loss_makes_a_probe_worthless():
    assert second_difference(Line(lambda share: share, part=0.0), 2.0) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_makes_a_probe_worthless(loss):
    assert second_difference(Line(lambda share: loss), 2.0) is None
    assert second_difference(Line(lambda share: loss, part=2.0), 2.0) is None


def test_differences_below_rounding_make_a_probe_worthless():
    unit = rounding_unit(torch.bfloat16)

    def probe(before: float, slope: float, part: float | None = None) -> float | None:
        return second_difference(Line(lambda share: before, slope, part, unit), 2.0)

    assert probe(2.0 + 3.9 * unit * 2, -3.9 * unit * 2) is None
    assert probe(2.0 + 4.1 * unit * 2, -3.9 * unit * 2) is not None
    assert probe(2.0, -4.1 * unit * 2) is not None
    assert probe(2.0 + 4.1 * unit * 2, -1.0, part=2.0) is None


def test_coarser_dtypes_have_larger_units():
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    units = [rounding_unit(dtype) for dtype in dtypes]
    assert units == sorted(units)
