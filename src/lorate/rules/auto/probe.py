r"""Curvature along the last displacement, from evaluating the batch that D has not seen once more."""

import math

from lorate.rules.line import LastLine

AGREEMENT = 0.5
"""Values show the curvature where theirs differs from that of the slopes by no more than this share of it."""
ENOUGH = 3
"""Probes in a row on which the two agree; after them values alone are asked, which cost no backward pass."""


def by_values(last: LastLine, loss: float, before: float) -> float | None:
    r"""Second difference C of the loss along the last displacement, $C = 2\,(q - (f_1 - f_0))$.

    Args:
        last: the line of the last displacement, with the slope q at its end.
        loss: $f_1$, of this step's batch.
        before: $f_0$, of the same batch before the displacement.

    Returns:
        C, or None if the differences drown in rounding or are not finite.
    """
    if not _is_visible((loss - before, last.end_slope), last.loss_unit * abs(loss)):
        return None
    return 2 * (last.end_slope - (loss - before))


def by_slopes(last: LastLine, slope: float) -> float | None:
    r"""The same as the difference of the slopes at the two ends, $C = q - q_0$.

    It is right where the loss holds terms that are not differentiated, so that its values do not show its slopes:
    the ratio to one's own detached probabilities in GRPO is 1 everywhere.

    Args:
        last: the line of the last displacement.
        slope: $q_0$.
    """
    change = last.end_slope - slope
    return change if _is_visible((change,), 4 * last.loss_unit * max(abs(slope), abs(last.end_slope))) else None


def agree(values: float | None, slopes: float | None) -> bool:
    """Whether values would have done.

    >>> agree(1.4, 1.0), agree(2.0, 1.0), agree(None, 1.0)
    (True, False, False)
    """
    return values is not None and slopes is not None and abs(values - slopes) <= AGREEMENT * abs(slopes)


def _is_visible(differences: tuple[float, ...], rounding: float) -> bool:
    finite = all(math.isfinite(difference) for difference in differences)
    return finite and max(map(abs, differences)) > 4 * rounding
