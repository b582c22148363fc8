"""Rules for the step size, one a file, found by name."""

from typing import Any

from lorate.errors import LorateError
from lorate.rates.adaptive import Adaptive
from lorate.rates.adaptive_loss import AdaptiveLoss
from lorate.rates.auto import Auto
from lorate.rates.backtracking import Backtracking
from lorate.rates.constant import Constant
from lorate.rates.majorizer import Majorizer
from lorate.rates.normalized import Normalized
from lorate.rates.one_factor import OneFactor
from lorate.rates.rate import Rate, StepSizes
from lorate.rates.sharp import Sharp
from lorate.rates.theory import Theory

RATES: dict[str, type[Rate]] = {
    rate.name: rate
    for rate in (Auto, Constant, Theory, Adaptive, AdaptiveLoss, Normalized, Sharp, OneFactor, Majorizer, Backtracking)
}


def make_rate(rate: str | Rate, smoothness: float | None = None) -> Rate:
    """A rule from its name.

    Args:
        rate: a name from `RATES`, or a rule, which is passed through.
        smoothness: L, for the rules that need it; ``backtracking`` takes one, and needs none.

    Raises:
        LorateError: the name is unknown, or L is missing or given to a rule that does not use it.

    >>> make_rate("normalized").formula
    'η = a / ‖∇J‖^½'
    """
    if isinstance(rate, Rate):
        if smoothness is not None:
            raise LorateError("smoothness belongs into the rule that was passed: leave one of the two out")
        return rate
    if rate not in RATES:
        raise LorateError(f"unknown rate {rate!r}; known: {', '.join(RATES)}")
    rule: Any = RATES[rate]
    uses_smoothness = "smoothness" in getattr(rule, "__dataclass_fields__", {})
    if smoothness is not None and not uses_smoothness:
        raise LorateError(f"rate {rate!r} does not use smoothness; leave it out, or use rate 'theory'")
    made: Rate = rule() if smoothness is None else rule(smoothness=smoothness)
    return made


__all__ = [
    "RATES",
    "Adaptive",
    "AdaptiveLoss",
    "Auto",
    "Backtracking",
    "Constant",
    "Majorizer",
    "Normalized",
    "OneFactor",
    "Rate",
    "Sharp",
    "StepSizes",
    "Theory",
    "make_rate",
]
