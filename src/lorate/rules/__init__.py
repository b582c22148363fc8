"""Rules for the step size, one per file, found by name."""

from typing import Any

from lorate.errors import LorateError
from lorate.rules.adaptive import Adaptive
from lorate.rules.adaptive_loss import AdaptiveLoss
from lorate.rules.alternate import Alternate
from lorate.rules.auto import Auto
from lorate.rules.backtracking import Backtracking
from lorate.rules.constant import Constant
from lorate.rules.line import LastLine, Line
from lorate.rules.majorizer import Majorizer
from lorate.rules.normalized import Normalized
from lorate.rules.one_factor import OneFactor
from lorate.rules.relative import Relative
from lorate.rules.rule import Rule
from lorate.rules.sharp import Sharp
from lorate.rules.step_sizes import StepSizes, safe_ratio, scale_correct
from lorate.rules.theory import Theory

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Auto,
        Constant,
        Theory,
        Adaptive,
        AdaptiveLoss,
        Normalized,
        Sharp,
        OneFactor,
        Majorizer,
        Backtracking,
        Relative,
        Alternate,
    )
}


def make_rule(rule: str | Rule, smoothness: float | None = None) -> Rule:
    """A rule from its name.

    Args:
        rule: a name from `RULES`, or a rule, which is passed through.
        smoothness: L, for the rules that need it; ``backtracking`` and ``alternate`` take one, and need none.

    Raises:
        LorateError: the name is unknown, or L is missing or given to a rule that does not use it.

    >>> make_rule("normalized").formula
    'η = a / ‖∇J‖^½'
    """
    if isinstance(rule, Rule):
        if smoothness is not None:
            raise LorateError("smoothness belongs in the rule object that was passed: leave one of the two out")
        return rule
    if rule not in RULES:
        raise LorateError(f"unknown rule {rule!r}; known: {', '.join(RULES)}")
    kind: Any = RULES[rule]
    uses_smoothness = "smoothness" in getattr(kind, "__dataclass_fields__", {})
    if smoothness is not None and not uses_smoothness:
        raise LorateError(f"rule {rule!r} does not use smoothness; leave it out, or use rule 'theory'")
    made: Rule = kind() if smoothness is None else kind(smoothness=smoothness)
    return made


__all__ = [
    "RULES",
    "Adaptive",
    "AdaptiveLoss",
    "Alternate",
    "Auto",
    "Backtracking",
    "Constant",
    "LastLine",
    "Line",
    "Majorizer",
    "Normalized",
    "OneFactor",
    "Relative",
    "Rule",
    "Sharp",
    "StepSizes",
    "Theory",
    "make_rule",
    "safe_ratio",
    "scale_correct",
]
