"""What every function here demands of its numbers: finite, and of the right sign."""

import numpy as np
import numpy.typing as npt

from lorate.errors import LorateError

FloatArray = npt.NDArray[np.float64]
Floats = npt.ArrayLike


def positive_smoothness(smoothness: Floats) -> FloatArray:
    """Return the smoothness constant as float64, or say why it cannot be one.

    Raises:
        LorateError: not a number, infinite, zero or negative.
    """
    value = np.asarray(smoothness, dtype=np.float64)
    if not np.all(np.isfinite(value) & (value > 0)):
        raise LorateError(
            f"The smoothness L must be a positive finite number, but it is {smoothness!r}. "
            "Give a known L, measure one with lorate.smoothness, or use a rule that needs none."
        )
    return value


def non_negative(name: str, values: Floats) -> FloatArray:
    """Return norms, their squares or scalings as float64, or say which one is not usable.

    Raises:
        LorateError: a value is negative, infinite or not a number.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise LorateError(f"{name} must be finite and not negative, but it is {values!r}.")
    return array


def finite(name: str, values: Floats) -> FloatArray:
    """Return numbers of any sign as float64.

    Raises:
        LorateError: a value is infinite or not a number.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise LorateError(f"{name} must be finite, but it is {values!r}.")
    return array


def inverse(denominator: FloatArray) -> FloatArray:
    """1/x, infinite at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.divide(1.0, denominator), dtype=np.float64)
