"""Many predictions, in parallel and with progress."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lorate.extras import require
from lorate_papers.attention.arguments import check_whole
from lorate_papers.attention.convergence import NotConverged
from lorate_papers.attention.prediction import Prediction, predict

Point = Mapping[str, Any]


def sweep(
    points: Sequence[Point],
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction | NotConverged]:
    """Predict every point of a curve.

    Args:
        points: the arguments of `predict`, one mapping a point.
        jobs: processes to use; more than one needs joblib.
        progress: called with the number of points done and of all points, after each.

    Returns:
        One prediction a point, in order; where a point did not converge, the exception with its last state.

    Raises:
        LorateError: an argument of a point is out of its range.
        MissingExtraError: ``jobs`` is above one and joblib is not installed.

    >>> curve = sweep([{"alpha": 0.1, "lam": lam} for lam in (0.01, 0.1)])
    >>> [round(row.error, 3) for row in curve if isinstance(row, Prediction)]
    [0.496, 0.594]
    """
    check_whole("jobs", jobs, at_least=1)
    results: list[Prediction | NotConverged] = []
    for result in _results(points, jobs):
        results.append(result)
        if progress is not None:
            progress(len(results), len(points))
    return results


def _results(points: Sequence[Point], jobs: int) -> Iterable[Prediction | NotConverged]:
    if jobs == 1:
        return (_attempt(point) for point in points)
    joblib = require("joblib", extra="experiments")
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    results: Iterable[Prediction | NotConverged] = parallel(joblib.delayed(_attempt)(p) for p in points)
    return results


def _attempt(point: Point) -> Prediction | NotConverged:
    try:
        return predict(**point)
    except NotConverged as failure:
        return failure
