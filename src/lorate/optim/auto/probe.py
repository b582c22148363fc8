r"""Curvature along the last displacement, from one or two evaluations of the batch that D has not seen."""

import math
from collections.abc import Callable

import torch

POINTS_OF_PART = (1.0, 0.5)

Evaluate = Callable[[float], float]
"""The replayed loss when a share of the last displacement is taken back: 0 is where the weights are, 1 before it."""


def rounding_unit(dtype: torch.dtype) -> float:
    """Relative error of a loss that is a mean over many values computed in a dtype.

    Errors of 16-bit passes are far larger than those of the mean over them, hence the sixteenth.
    """
    eps = torch.finfo(dtype).eps
    return eps / 16 if dtype in (torch.float16, torch.bfloat16) else 2 * eps


def whole_batch(evaluate: Evaluate, loss: float, end_slope: float, unit: float) -> float | None:
    r"""Second difference $C = 2\,(q - (f_1 - f_0))$ from one evaluation $f_0$ before the displacement.

    Args:
        evaluate: the loss of the step's batch.
        loss: $f_1$, at the end of the displacement, from training.
        end_slope: q, the slope there, of the same batch.
        unit: relative rounding of a loss.

    Returns:
        C, or None if the difference drowns in rounding or is not finite.
    """
    before = evaluate(1.0)
    if not _is_visible((loss - before, end_slope), unit, loss):
        return None
    return 2 * (end_slope - (loss - before))


def part_of_batch(evaluate: Evaluate, loss: float, part: float, unit: float) -> float | None:
    r"""Second difference $C = 4\,(f_1 - 2 f_{1/2} + f_0)$ of a micro-batch, on the scale of the whole batch.

    Its own slope is not known, so the middle of the displacement is evaluated too.

    Args:
        evaluate: the loss of the micro-batch.
        loss: of the whole batch, at the end of the displacement.
        part: of the micro-batch there: $f_1$.
        unit: relative rounding of a loss.

    Returns:
        C, or None if the differences drown in rounding or are not finite, or the micro-batch has no loss.
    """
    before, middle = (evaluate(share) for share in POINTS_OF_PART)
    difference = 4 * (part - 2 * middle + before)
    if part == 0 or not _is_visible((part - before, part - middle), 4 * unit, part):
        return None
    return difference * loss / part


def _is_visible(differences: tuple[float, float], unit: float, level: float) -> bool:
    finite = all(math.isfinite(difference) for difference in differences)
    return finite and max(map(abs, differences)) > 4 * unit * abs(level)
