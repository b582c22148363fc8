"""What is proved, or can be estimated, about a run that happened; and what is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.monitor.setting import Setting

Verdict = Literal["holds", "violated"]
Standing = Literal["proved", "observed", "statistical"]


@dataclass(frozen=True)
class Line:
    """One statement about the run.

    Attributes:
        claim: what is claimed, in words.
        figures: the numbers that decide it.
        verdict: whether it holds in this run.
        standing: ``"proved"``: it follows from the assumptions; ``"observed"``: it was only looked at;
            ``"statistical"``: it holds with the probability it names, under the assumptions.
    """

    claim: str
    figures: str
    verdict: Verdict
    standing: Standing


@dataclass(frozen=True)
class Certificate:
    """All that can be said of a run.

    Attributes:
        lines: the statements; empty if nothing can be certified.
        regime: whether the adapters stay bounded or grow, with the fitted exponent.
        checked: assumptions that the records confirm.
        assumptions: what is taken for granted.
        not_proved: what is not proved about this run.
        reason: why nothing can be certified; None if something can.
    """

    lines: list[Line]
    regime: str
    checked: list[str]
    assumptions: list[str]
    not_proved: list[str]
    reason: str | None = None

    @property
    def exit_code(self) -> int:
        """0: all that was checked holds; 1: something is violated; 2: not certifiable."""
        if self.reason is not None:
            return 2
        return int(any(line.verdict == "violated" for line in self.lines))

    @property
    def remarks(self) -> list[tuple[str, list[str]]]:
        """All but the lines, under their titles, as they are printed."""
        parts = [
            ("Regime", [self.regime] if self.regime else []),
            ("Checked", self.checked),
            ("Assumed", self.assumptions),
            ("Not proved", self.not_proved),
        ]
        return [(title, items) for title, items in parts if items]

    @classmethod
    def refused(cls, reason: str) -> "Certificate":
        """Nothing can be certified."""
        return cls([], "", [], [], [reason], reason)


def line(claim: str, figures: str, holds: bool, standing: Standing) -> Line:
    """A statement and whether it holds."""
    return Line(claim, figures, "holds" if holds else "violated", standing)


def certify(directory: Path) -> Certificate:
    """Check a run directory that a `lorate.Monitor` wrote.

    Args:
        directory: holds ``metrics.jsonl`` and ``setting.json``.

    Raises:
        LorateError: the directory is no such run.
    """
    if not (directory / "metrics.jsonl").exists():
        raise LorateError(f"{directory} holds no metrics.jsonl; give a directory that lorate.Monitor wrote.")
    setting = Setting.read(directory)
    return certify_records(setting, read_jsonl(directory / "metrics.jsonl").records)


def certify_records(setting: Setting, records: Sequence[dict[str, Any]]) -> Certificate:
    """The certificate of records and the facts about them; a pure function."""
    from lorate.monitor.full_batch import certify_full_batch
    from lorate.monitor.mini_batch import certify_mini_batch

    return (certify_full_batch if setting.full_batch else certify_mini_batch)(setting, records)
