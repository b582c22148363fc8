"""Many predictions, with progress."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorate_papers.attention.convergence import NotConverged
from lorate_papers.attention.prediction import Prediction, predict


def sweep(
    points: Sequence[Mapping[str, Any]], progress: Callable[[int, int], None] | None = None
) -> list[Prediction | NotConverged]:
    """Predict every point of a curve.

    Args:
        points: the arguments of `predict`, one mapping per point.
        progress: called with the number of points done and of all points, after each.

    Returns:
        One prediction per point, in order; where a point did not converge, the exception with its last state.

    Raises:
        LorateError: an argument of a point is out of its range.

    >>> curve = sweep([{"alpha": 0.1, "lam": lam} for lam in (0.01, 0.1)])
    >>> [round(row.error, 3) for row in curve if isinstance(row, Prediction)]
    [0.496, 0.594]
    """
    results: list[Prediction | NotConverged] = []
    for point in points:
        try:
            results.append(predict(**point))
        except NotConverged as failure:
            results.append(failure)
        if progress is not None:
            progress(len(results), len(points))
    return results
