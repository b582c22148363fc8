"""Differences of two methods that were run with the same seeds."""

import math
import statistics
from collections.abc import Sequence
from itertools import groupby


def differences(pairs: Sequence[tuple[str, float, float]]) -> tuple[float | None, float | None]:
    r"""Mean of one method's regret minus another's, and what chance in the seeds does to it.

    With $d_{s,i}$ for setting s and seed i, the mean is $\frac1k\sum_s\bar d_s$ and its standard error
    $\frac1k\sqrt{\sum_s \mathrm{sd}(d_{s,\cdot})^2/n_s}$. A setting with one seed says nothing about chance and is left
    out. The settings are what they are: the error does not say how others would come out.

    Args:
        pairs: setting and both regrets, those of one setting in succession.

    Returns:
        Both None where a run diverged, or where no setting has two seeds.

    >>> differences([("a", 0.0, 0.2), ("a", 0.0, 0.4), ("b", 0.1, 0.1), ("b", 0.1, 0.1), ("c", 5.0, 0.0)])
    (-0.15, 0.05)
    """
    by_setting = [[one - other for _, one, other in own] for _, own in groupby(pairs, key=lambda pair: pair[0])]
    several = [own for own in by_setting if len(own) > 1]
    if not several or not all(math.isfinite(value) for own in several for value in own):
        return None, None
    error = math.sqrt(sum(statistics.variance(own) / len(own) for own in several)) / len(several)
    return round(statistics.fmean(map(statistics.fmean, several)), 9), round(error, 9)
