r"""What is proved about a run that happened: each inequality checked step by step, and what is not proved.

Everything is in the scaled factors $\tilde V_l = \sqrt{s_l} V_l$, see docs/mathematics.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lorate.descent import (
    StepGuarantee,
    rate_bound,
    sharp_guarantee,
    stacked_norm_bound,
    sum_eta_bound,
    theory_guarantee,
)
from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.monitor.setting import LARGEST, Setting, is_number

Verdict = Literal["holds", "violated"]
GLOBAL = {"theory": theory_guarantee, "sharp": sharp_guarantee}
"""Rules with one step size for all layers whose sum of steps is bounded in advance."""


_NUMBERS = ("loss", "lr", "sum_eta", "scaled_stacked_norm", "scaled_grad_norm")
"""What every record must hold, finite."""


@dataclass(frozen=True)
class Line:
    """One inequality.

    Attributes:
        claim: what is claimed, in words.
        figures: the numbers that decide it.
        verdict: whether it holds in this run.
        proved: whether it was proved beforehand; otherwise it is only observed.
    """

    claim: str
    figures: str
    verdict: Verdict
    proved: bool


@dataclass(frozen=True)
class Certificate:
    """All inequalities of a run.

    Attributes:
        lines: the inequalities; empty if nothing can be certified.
        regime: whether the adapters stay bounded or grow, with the fitted exponent.
        assumptions: what the proofs take for granted.
        not_proved: what is not proved about this run.
        reason: why nothing can be certified; None if something can.
    """

    lines: list[Line]
    regime: str
    assumptions: list[str]
    not_proved: list[str]
    reason: str | None = None

    @property
    def exit_code(self) -> int:
        """0: all that was checked holds; 1: something is violated; 2: not certifiable."""
        if self.reason is not None:
            return 2
        return int(any(line.verdict == "violated" for line in self.lines))


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
    steps = [record for record in records if record.get("skipped") is None]
    reason = _obstacle(setting, steps)
    if reason is not None:
        return Certificate([], "", [], [reason], reason)
    losses = np.array([record["loss"] for record in steps], dtype=float)
    falls = losses[:-1] - losses[1:]
    # losses are rounded, each by a few units in the last place
    allowance = 16 * setting.precision * np.maximum(np.abs(losses[:-1]), np.abs(losses[1:]))
    lines = [_descent(falls, allowance)]
    promised = [record.get("guarantee") for record in steps[:-1]]
    if all(value is not None for value in promised):
        guarantees = np.array(promised, dtype=float)
        lines.append(_guaranteed(falls, guarantees, allowance))
        lines.append(_gradient(setting, steps, guarantees, losses[0]))
        if setting.rule in GLOBAL and not setting.per_layer and all(record["lr"] == 1.0 for record in steps):
            lines += _rate_theorem(setting, steps, losses[0])
    return Certificate(lines, _regime(steps), _assumptions(setting), _not_proved(setting, len(lines) > 1))


def _obstacle(setting: Setting, steps: Sequence[dict[str, Any]]) -> str | None:
    if not setting.full_batch:
        return (
            "the steps saw mini-batches, so the loss is not one function; nothing is proved about such a run "
            "(full-batch runs are recorded with Monitor(..., full_batch=True))"
        )
    if setting.dropout:
        return "the adapters have dropout, so the loss is another function at every step"
    if len(steps) < 2:
        return f"at least 2 steps are needed, and the run has {len(steps)}"
    if any(record.get("loss") is None for record in steps):
        return "the loss of some steps was not recorded: call optimizer.step(loss=loss)"
    for place, record in enumerate(steps, start=1):
        for name in (*_NUMBERS, *(["guarantee"] if record.get("guarantee") is not None else [])):
            if not is_number(record.get(name), sys.float_info.max if name == "loss" else LARGEST):
                return f"record {place} of the steps taken holds no number for {name}"
        if record["loss"] < setting.lower_bound:
            return (
                f"the loss of record {place} of the steps taken is {record['loss']:.6g}, below the lower_bound of "
                f"{setting.lower_bound:g}: give Monitor(..., lower_bound=) a number that the loss never goes below"
            )
    return None


def _line(claim: str, figures: str, holds: bool, *, proved: bool) -> Line:
    return Line(claim, figures, "holds" if holds else "violated", proved)


def _descent(falls: np.ndarray, allowance: np.ndarray) -> Line:
    held = falls >= -allowance
    worst = "" if held.all() else f"; largest rise {-falls.min():.3g}, after step {int(np.argmin(falls)) + 1}"
    return _line(
        "The loss fell at every step.", f"{held.sum()} of {len(held)} steps{worst}", bool(held.all()), proved=False
    )


def _guaranteed(falls: np.ndarray, guarantees: np.ndarray, allowance: np.ndarray) -> Line:
    held = falls >= guarantees - allowance
    total = guarantees.sum()
    used = falls.sum() / total if total > 0 else math.inf
    return _line(
        "Each step fell by at least what the rule guarantees.",
        f"{held.sum()} of {len(held)} steps; {used:.3g} times the guarantee in all",
        bool(held.all()),
        proved=True,
    )


def _gradient(setting: Setting, steps: Sequence[dict[str, Any]], guarantees: np.ndarray, first: float) -> Line:
    r"""The guarantees add up to at most the gap, and each is a weight times $\|\nabla J_t\|^2$."""
    squares = np.array([record["scaled_grad_norm"] ** 2 for record in steps[:-1]])
    smallest = float(squares.min())
    weights = float(np.sum(guarantees[squares > 0] / squares[squares > 0]))
    bound = (first - setting.lower_bound) / weights if weights > 0 else math.inf
    return _line(
        "min ‖∇J‖² is at most what the guarantees leave room for.",
        f"{smallest:.4g}, bound {bound:.4g}, ratio {smallest / bound if bound > 0 else 0:.2g}",
        smallest <= bound * (1 + 1e-9),
        proved=True,
    )


def _rate_theorem(setting: Setting, steps: Sequence[dict[str, Any]], first: float) -> list[Line]:
    assert setting.smoothness is not None
    gap, start = first - setting.lower_bound, steps[0]["scaled_stacked_norm"]
    known: StepGuarantee = GLOBAL[setting.rule](gap, start, setting.smoothness, other_parameters=setting.has_rest)
    total = steps[-2]["sum_eta"]
    count = len(steps) - 1
    smallest = min(record["scaled_grad_norm"] ** 2 for record in steps[:-1])
    bound, least = float(rate_bound(known, count)), float(sum_eta_bound(known, count))
    norm, largest = steps[-1]["scaled_stacked_norm"], float(stacked_norm_bound(gap, start, total, known.fraction))
    return [
        _line(
            "Σ η is at least what was proved before the run, Ω(√T).",
            f"{total:.4g}, bound {least:.4g}",
            total >= least * (1 - 1e-9),
            proved=True,
        ),
        _line(
            "min ‖∇J‖² is at most what was proved before the run, O(1/√T).",
            f"{smallest:.4g}, bound {bound:.4g}",
            smallest <= bound * (1 + 1e-9),
            proved=True,
        ),
        _line(
            "‖V‖ is at most ‖V₀‖ + √(Δ Σ η / fraction).",
            f"{norm:.4g}, bound {largest:.4g}",
            norm <= largest * (1 + 1e-9),
            proved=True,
        ),
    ]


def _regime(steps: Sequence[dict[str, Any]]) -> str:
    r"""Exponent p of $\|V\|^2 \sim (\sum\eta)^p$ over the second half of the run."""
    half = [
        record for record in steps[len(steps) // 2 :] if record["sum_eta"] > 0 and record["scaled_stacked_norm"] > 0
    ]
    if len(half) < 3 or half[0]["sum_eta"] == half[-1]["sum_eta"]:
        return "too few steps to tell whether the adapters stay bounded"
    time = np.log([record["sum_eta"] for record in half])
    size = 2 * np.log([record["scaled_stacked_norm"] for record in half])
    exponent = float(np.polyfit(time, size, 1)[0])
    word = "bounded" if exponent < 0.1 else "growing"
    return f"adapters {word}: ‖V‖² ~ (Σ η)^{exponent:.2f} over the second half of the run"


def _assumptions(setting: Setting) -> list[str]:
    found = [f"the loss never goes below {setting.lower_bound:g}"]
    if setting.smoothness is not None:
        found.append(f"the loss is L-smooth in the adapted weights with L = {setting.smoothness:.6g}, as given")
    return found


def _not_proved(setting: Setting, guaranteed: bool) -> list[str]:
    found = ["anything about held-out data"]
    if setting.gradient_norm == "sketch":
        found.append(
            "the guarantees of the steps: the frozen weights' gradient was sketched, and a sketch can fall short"
        )
    if not guaranteed and setting.gradient_norm != "sketch":
        found.append(f"a decrease of each step: rule {setting.rule!r} guarantees none here")
    if setting.smoothness is not None:
        found.append("that L is right: it was given, not derived from the loss")
    if setting.rule == "backtracking":
        found.append("a rate in advance: L was found by trial")
    return found
