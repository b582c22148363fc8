"""Checks of the numbers a user hands in: what was expected, what came."""

import math
from numbers import Integral

from lorate.errors import LorateError

LARGEST = 1e12
"""Larger numbers are not solved for: their fourth powers, and products of these, leave the range of float64."""

SMALLEST = 1e-12
"""Shares of data below it are not solved for."""


def check(
    name: str, value: float, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> None:
    """Raise `LorateError` unless ``value`` is finite and within the bounds.

    >>> check("noise", -0.5, at_least=0)
    Traceback (most recent call last):
        ...
    lorate.errors.LorateError: noise must be at least 0; it is -0.5
    """
    if not math.isfinite(value):
        raise LorateError(f"{name} must be a finite number; it is {value}")
    if above is not None and value <= above:
        raise LorateError(f"{name} must be above {above:g}; it is {value:g}")
    if at_least is not None and value < at_least:
        raise LorateError(f"{name} must be at least {at_least:g}; it is {value:g}")
    if at_most is not None and value > at_most:
        raise LorateError(f"{name} must be at most {at_most:g}; it is {value:g}")
    if value > LARGEST:
        raise LorateError(f"{name} must be at most {LARGEST:g}; it is {value:g}")


def check_whole(name: str, value: int, at_least: int) -> None:
    """Raise `LorateError` unless ``value`` is an int within the bound; shapes of arrays take no float, not even 3.0."""
    if not isinstance(value, Integral) or value < at_least:
        raise LorateError(f"{name} must be a whole number of at least {at_least}; it is {value!r}")


def check_points(points: int, at_least: int = 2) -> None:
    """Raise `LorateError` unless ``points`` is a power of two within the bound."""
    if not isinstance(points, Integral) or points < at_least or points & (points - 1):
        raise LorateError(f"points must be a power of two, at least {at_least}; it is {points!r}")
