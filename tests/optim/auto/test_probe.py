"""Second differences from evaluations of a loss along a line."""

import math

import pytest
import torch

from lorate.optim.auto.probe import part_of_batch, rounding_unit, whole_batch


def parabola(share: float, curvature: float = 3.0, slope: float = -1.0, level: float = 2.0) -> float:
    """Loss with a share of the displacement taken back; curvature and end slope are those of the whole displacement."""
    return level - slope * share + curvature / 2 * share**2


@pytest.mark.parametrize("curvature", [-2.0, 0.5, 3.0])
def test_both_probes_find_the_curvature_of_a_parabola(curvature):
    def evaluate(share):
        return parabola(share, curvature)

    assert whole_batch(evaluate, evaluate(0.0), -1.0, 1e-16) == pytest.approx(curvature)
    assert part_of_batch(evaluate, 2.0, 2.0, 1e-16) == pytest.approx(curvature)


def test_a_micro_batch_is_put_on_the_scale_of_the_whole():
    assert part_of_batch(lambda share: 0.25 * parabola(share), 2.0, 0.5, 1e-16) == pytest.approx(3.0)


def test_a_micro_batch_without_loss_makes_a_probe_worthless():
    assert part_of_batch(lambda share: share, 2.0, 0.0, 1e-16) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_makes_a_probe_worthless(loss):
    assert whole_batch(lambda share: loss, 2.0, -1.0, 1e-16) is None
    assert part_of_batch(lambda share: loss, 2.0, 2.0, 1e-16) is None


def test_differences_below_rounding_make_a_probe_worthless():
    unit = rounding_unit(torch.bfloat16)
    assert whole_batch(lambda share: 2.0 + 3.9 * unit * 2, 2.0, -3.9 * unit * 2, unit) is None
    assert whole_batch(lambda share: 2.0 + 4.1 * unit * 2, 2.0, -3.9 * unit * 2, unit) is not None
    assert whole_batch(lambda share: 2.0, 2.0, -4.1 * unit * 2, unit) is not None
    assert part_of_batch(lambda share: 2.0 + 4.1 * unit * 2, 2.0, 2.0, unit) is None


def test_coarser_dtypes_have_larger_units():
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    units = [rounding_unit(dtype) for dtype in dtypes]
    assert units == sorted(units)
