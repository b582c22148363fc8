"""Rules for the step size, one a file, found by name."""

from typing import Any

from lorate.errors import LorateError
from lorate.rates.adaptive import Adaptive
from lorate.rates.adaptive_loss import AdaptiveLoss
from lorate.rates.constant import Constant
from lorate.rates.normalized import Normalized
from lorate.rates.rate import Rate, StepSizes
from lorate.rates.theory import Theory

RATES: dict[str, type[Rate]] = {rate.name: rate for rate in (Constant, Theory, Adaptive, AdaptiveLoss, Normalized)}


def make_rate(rate: str | Rate, smoothness: float | None = None) -> Rate:
    """A rule from its name.

    Args:
        rate: a name from `RATES`, or a rule, which is passed through.
        smoothness: L, for the rules that need it.

    Raises:
        LorateError: the name is unknown, or L is missing or given to a rule that does not use it.

    >>> make_rate("normalized").formula
    'η = a / ‖∇J‖^½'
    """
    if isinstance(rate, Rate):
        return rate
    if rate not in RATES:
        raise LorateError(f"unknown rate {rate!r}; known: {', '.join(RATES)}")
    options: dict[str, Any] = {}
    if "smoothness" in RATES[rate].needs:
        options["smoothness"] = smoothness
    elif smoothness is not None:
        raise LorateError(f"rate {rate!r} does not use smoothness; leave it out, or use rate 'theory'")
    return RATES[rate](**options)


__all__ = ["RATES", "Adaptive", "AdaptiveLoss", "Constant", "Normalized", "Rate", "StepSizes", "Theory", "make_rate"]
