r"""Exact minimiser of a quartic $c_1x + c_2x^2 + c_3x^3 + c_4x^4$ over x >= 0, for many quartics at once.

The derivative is a cubic. After a change of unit that makes its largest coefficient one, its turning points (the
stable quadratic formula) cut the axis into pieces where it is monotone; at most two of them hold a minimum, and in each
a Newton iteration kept inside a shrinking bracket finds it to the last digits, whatever the sizes of the coefficients.
"""

import numpy as np

from lorate.descent.checks import FloatArray, Floats, finite
from lorate.errors import LorateError

_LEAST_ROOT = 0.5  # with all coefficients at most one, -1 + y + y² + y³ is still negative here
_LARGEST_ROOT = 1e100  # its cube is still a float
_MOST_ITERATIONS = 200


def evaluate_quartic(coefficients: Floats, x: Floats) -> FloatArray:
    """Value of each quartic at x.

    Args:
        coefficients: ``[c1, c2, c3, c4]``, shape ``[4, ...]``.
        x: points, broadcasting with ``[...]``.

    Raises:
        LorateError: a coefficient is not finite, or there are not four.

    >>> float(evaluate_quartic([-1.0, 0.0, 0.0, 1.0], 2.0))
    14.0
    """
    c1, c2, c3, c4 = _four(coefficients)
    point = np.asarray(x, dtype=np.float64)
    return np.asarray(point * (c1 + point * (c2 + point * (c3 + point * c4))), dtype=np.float64)


def minimise_quartic(coefficients: Floats, *, precision: float = 1e-14) -> FloatArray:
    r"""Smallest point of each quartic over x >= 0: of the stationary points, the one with the smallest value.

    Where there are two minima the farther one may owe its value to rounding: its terms can cancel (the weights of a
    LoRA layer may return to where they were). It is taken only if it stays below the nearer one when all terms are
    changed by ``precision``.

    Args:
        coefficients: ``[c1, c2, c3, c4]``, shape ``[4, ...]``, any sizes and, except for c1, any signs.
        precision: relative precision of the coefficients; about 1e-6 for those computed in float32.

    Returns:
        Minimisers, shape ``[...]``: 0 where c1 >= 0 (the quartic does not fall at 0, so no step is taken, even if it
        should fall further out); infinite where it falls without bound (no positive leading coefficient).

    Raises:
        LorateError: a coefficient is not finite, or there are not four.

    >>> minimise_quartic([[-1.0, -1.0, 1.0, -1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.25, 1.0, 0.0]])
    array([0.5, 1. , 0. , inf])
    """
    c = _four(coefficients)
    result = np.zeros(c.shape[1:])
    falling = c[0] < 0
    if falling.any():
        result[falling] = _minimise_falling(c[:, falling], precision)
    return result


def _four(coefficients: Floats) -> FloatArray:
    c = finite("The coefficients", coefficients)
    if c.ndim == 0 or c.shape[0] != 4:
        raise LorateError(f"Expected four coefficients [c1, c2, c3, c4] along the first axis, got shape {c.shape}.")
    return c


def _minimise_falling(c: FloatArray, precision: float) -> FloatArray:
    """Minimisers for ``c[0] < 0``, shape ``[n]``, from coefficients of shape ``[4, n]``."""
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        # where each higher term alone would balance the slope; the nearest is the unit of length
        degree = np.array([[1.0], [2.0], [3.0]])
        alone = (-c[0] / ((degree + 1) * np.abs(c[1:]))) ** (1 / degree)
        unit = alone.min(axis=0)
        k = np.sign(c[1:]) * (unit / alone) ** degree
        k2, k3, k4 = np.where(np.isfinite(k), k, 0.0)
    bounded = (k4 > 0) | ((k4 == 0) & ((k3 > 0) | ((k3 == 0) & (k2 > 0))))
    result = np.full(c.shape[1], np.inf)
    if bounded.any():
        result[bounded] = unit[bounded] * _minimise_scaled(np.stack([k2, k3, k4])[:, bounded], precision)
    return result


def _minimise_scaled(k: FloatArray, precision: float) -> FloatArray:
    """Smallest point over y > 0 of -y + k2 y²/2 + k3 y³/3 + k4 y⁴/4, all |k| <= 1 and one of them equal to one."""
    first, second = _turning_points(*k)
    near_exists = (first > 0) & (_cubic(k, np.maximum(first, 0.0)) >= 0)
    start = np.maximum(second, 0.0)
    far_exists = (_cubic(k, start) <= 0) | ~near_exists
    low = np.maximum(start, _LEAST_ROOT)
    far = _root_between(k, low, np.maximum(_beyond_all_roots(k), low))
    near = _root_between(k, np.full_like(first, _LEAST_ROOT), np.maximum(first, _LEAST_ROOT))
    prefer_near = near_exists & (~far_exists | (_log_depth(k, near) >= _log_depth(k, far, precision)))
    return np.where(prefer_near, near, far)


def _cubic(k: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(-1 + y * (k[0] + y * (k[1] + y * k[2])), dtype=np.float64)


def _log_depth(k: FloatArray, y: FloatArray, precision: float = 0.0) -> FloatArray:
    """Logarithm of minus the quartic, less what the precision leaves in doubt; hardly any if it is not negative."""
    terms = np.stack([np.ones_like(y), -y * k[0] / 2, -(y**2) * k[1] / 3, -(y**3) * k[2] / 4])
    mean_depth = terms.sum(axis=0) - precision * np.abs(terms).sum(axis=0)
    return np.asarray(np.log(y) + np.log(np.maximum(mean_depth, np.finfo(float).tiny)), dtype=np.float64)


def _turning_points(k2: FloatArray, k3: FloatArray, k4: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where the cubic turns from rising to falling, and where it rises again (-inf and 0 if it never falls)."""
    discriminant = k3**2 - 3 * k4 * k2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = -(k3 + np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), k3))
        outer, inner = q / (3 * k4), k2 / q
        first, second = np.minimum(outer, inner), np.maximum(outer, inner)
        parabola = k4 == 0  # then k3 >= 0: it falls up to its vertex and rises from there
        first = np.where(parabola, -np.inf, first)
        second = np.where(parabola, np.where(k3 > 0, -k2 / (2 * k3), 0.0), second)
    turns = (discriminant > 0) & np.isfinite(second)
    first = np.where(turns, first, -np.inf)
    second = np.where(turns, second, 0.0)
    return first, np.asarray(np.minimum(second, _LARGEST_ROOT), dtype=np.float64)


def _beyond_all_roots(k: FloatArray) -> FloatArray:
    """A point where the leading term outweighs all negative ones."""
    k2, k3, k4 = k
    fall2, fall3 = np.maximum(-k2, 0.0), np.maximum(-k3, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quartic = np.maximum(np.maximum(np.cbrt(3 / k4), np.sqrt(3 * fall2 / k4)), 3 * fall3 / k4)
        cubic = np.maximum(np.sqrt(2 / k3), 2 * fall2 / k3)
        bound = np.where(k4 > 0, quartic, np.where(k3 > 0, cubic, 1 / k2))
    return np.asarray(np.minimum(bound, _LARGEST_ROOT), dtype=np.float64)


def _root_between(k: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Root of a cubic that rises from ``low`` (value <= 0) to ``high`` (value >= 0); bisection in the logarithm."""
    low, high = low.copy(), high.copy()
    y = np.clip(1.0, low, high)
    previous = high - low
    for _ in range(_MOST_ITERATIONS):
        value = _cubic(k, y)
        rise = k[0] + y * (2 * k[1] + y * 3 * k[2])
        np.copyto(low, y, where=value < 0)
        np.copyto(high, y, where=value >= 0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = y - value / rise
        trusted = (newton >= low) & (newton <= high) & (np.abs(newton - y) <= previous / 2)
        following = np.where(trusted, newton, np.sqrt(low) * np.sqrt(high))
        previous = np.abs(following - y)
        y = following
        if np.all(previous <= 4 * np.finfo(float).eps * y):
            break
    return np.asarray(y, dtype=np.float64)
