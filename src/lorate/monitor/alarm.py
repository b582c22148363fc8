"""What an alarm is."""

from dataclasses import dataclass
from typing import Literal

OnAlarm = Literal["warn", "stop", "halve"]
"""What happens at a diverging or non-finite alarm."""

Kind = Literal[
    "diverging", "rising", "non-finite", "stalled", "stuck-at-origin", "growing", "overfitting", "no-gradient"
]


@dataclass(frozen=True)
class Alarm:
    """Something that a person should know about the run, and what to do.

    Attributes:
        kind: one word for programs.
        message: what was seen, in a sentence.
        remedy: what to do, in a sentence.
    """

    kind: Kind
    message: str
    remedy: str
