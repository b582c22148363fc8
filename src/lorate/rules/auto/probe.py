r"""Curvature along the last displacement, from one or two evaluations of the batch that D has not seen."""

import math

from lorate.rules.line import LastLine


def second_difference(last: LastLine, loss: float) -> float | None:
    r"""Second difference C of the loss along the last displacement.

    $C = 2\,(q - (f_1 - f_0))$ from one evaluation $f_0$ before the displacement, with the loss $f_1$ and the slope q at
    its end. If only the last micro-batch can be evaluated again, whose own slope is not known, the middle of the
    displacement is evaluated too: $C = 4\,(f_1 - 2 f_{1/2} + f_0)$, on the scale of the whole batch.

    Args:
        last: the line of the last displacement.
        loss: of this step's batch.

    Returns:
        C, or None if the differences drown in rounding or are not finite, or the micro-batch has no loss.
    """
    if last.part is None:
        before = last.loss_before()
        if not _is_visible((loss - before, last.end_slope), last.loss_unit, loss):
            return None
        return 2 * (last.end_slope - (loss - before))
    part, before, middle = last.part, last.loss_before(), last.loss_before(0.5)
    if part == 0 or not _is_visible((part - before, part - middle), 4 * last.loss_unit, part):
        return None
    return 4 * (part - 2 * middle + before) * loss / part


def _is_visible(differences: tuple[float, float], unit: float, level: float) -> bool:
    finite = all(math.isfinite(difference) for difference in differences)
    return finite and max(map(abs, differences)) > 4 * unit * abs(level)
