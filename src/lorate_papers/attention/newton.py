"""Damped Newton's method on many small problems at once."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


class Problems(ABC):
    """A batch of minimisation problems in a few variables each, addressed by row numbers."""

    @abstractmethod
    def value(self, x: Array, rows: Rows) -> Array:
        """Objective at ``x`` (shape ``[len(rows), d]``) for the problems ``rows``, shape ``[len(rows)]``."""

    @abstractmethod
    def derivatives(self, x: Array, rows: Rows) -> tuple[Array, Array, Array]:
        """Gradient ``[.., d]``, second derivative ``[.., d, d]``, and a positive definite stand-in for it."""


def minimise(problems: Problems, starts: list[Array], tolerance: float = 1e-9) -> Array:
    """Local minimisers from several starts, the lowest of them for every problem.

    Args:
        problems: what to minimise.
        starts: start points, each of shape ``[points, d]``.
        tolerance: length of the last step, relative to one plus the length of the point.

    Returns:
        Shape ``[points, d]``.
    """
    rows = np.arange(len(starts[0]))
    found = [_descend(problems, start, tolerance) for start in starts]
    values = np.stack([problems.value(x, rows) for x in found])
    return np.asarray(np.stack(found)[values.argmin(0), rows])


def _descend(problems: Problems, start: Array, tolerance: float) -> Array:
    x = start.copy()
    rows = np.arange(len(x))
    value = problems.value(x, rows)
    for _ in range(60):
        gradient, hessian, convex = problems.derivatives(x[rows], rows)
        step = np.asarray(-np.linalg.solve(hessian, gradient[..., None])[..., 0], dtype=float)
        slope = np.asarray((step * gradient).sum(-1))
        uphill = ~(slope < 0)
        if uphill.any():
            step[uphill] = -np.linalg.solve(convex[uphill], gradient[uphill][..., None])[..., 0]
            slope[uphill] = (step * gradient).sum(-1)[uphill]
        x[rows], value[rows] = _line_search(problems, x[rows], value[rows], step, slope, rows)
        rows = rows[np.abs(step).max(-1) > tolerance * (1 + np.abs(x[rows]).max(-1))]
        if len(rows) == 0:
            break
    return x


def _line_search(
    problems: Problems, x: Array, value: Array, step: Array, slope: Array, rows: Rows
) -> tuple[Array, Array]:
    """Halve the step of each problem until its objective falls enough; no move where it never does."""
    new_x, new_value = x.copy(), value.copy()
    open_rows = np.arange(len(rows))
    length = 1.0
    for _ in range(25):
        trial = x[open_rows] + length * step[open_rows]
        trial_value = problems.value(trial, rows[open_rows])
        enough = trial_value <= value[open_rows] + 1e-4 * length * slope[open_rows] + 1e-15
        new_x[open_rows[enough]], new_value[open_rows[enough]] = trial[enough], trial_value[enough]
        open_rows = open_rows[~enough]
        if len(open_rows) == 0:
            break
        length /= 2
    return new_x, new_value
