"""Checks of the numbers a user hands in: what was expected, what came."""

import math

from lorate.errors import LorateError


def check(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
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


def check_tokens(tokens: int) -> None:
    """Raise `LorateError` unless ``tokens`` is a whole number of at least two."""
    if not math.isfinite(tokens) or int(tokens) != tokens or tokens < 2:
        raise LorateError(f"tokens must be a whole number of at least 2; it is {tokens}")
