r"""The certificate of a full-batch run: each inequality checked step by step, and the assumptions as far as they show.

Everything is in the scaled factors $\tilde V_l = \sqrt{s_l} V_l$, see docs/mathematics. A run is certified from its
first record on, which need not be that of its first step.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lorate.descent import (
    StepGuarantee,
    rate_bound,
    sharp_guarantee,
    stacked_norm_bound,
    sum_eta_bound,
    theory_guarantee,
)
from lorate.monitor.certificate import Certificate, Line, line
from lorate.monitor.setting import LARGEST, Setting, is_number, some

Record = dict[str, Any]
GLOBAL = {"theory": theory_guarantee, "sharp": sharp_guarantee}
"""Rules with one step size for all layers whose sum of steps is bounded in advance."""

NUMBERS = ("loss", "eta", "lr", "sum_eta", "scaled_stacked_norm", "scaled_grad_norm")
"""What every record must hold, finite."""

ROUNDING_UNITS = 16
"""How many units in its last place a loss may be off by."""


def certify_full_batch(setting: Setting, records: Sequence[Record]) -> Certificate:
    """The certificate; a pure function."""
    steps = [record for record in records if record.get("skipped") is None]
    reason = _unfit(setting, steps) or _broken_assumption(setting, records)
    if reason is not None:
        return Certificate.refused(reason)
    losses = np.array([record["loss"] for record in steps], dtype=float)
    falls = losses[:-1] - losses[1:]
    allowance = ROUNDING_UNITS * setting.precision * np.maximum(np.abs(losses[:-1]), np.abs(losses[1:]))
    lines = [_descent(falls, allowance)]
    promised = [record.get("guarantee") for record in steps[:-1]]
    if all(value is not None for value in promised):
        guarantees = np.array(promised, dtype=float)
        lines.append(_guaranteed(setting, falls, guarantees, allowance))
        lines.append(_gradient(setting, steps, guarantees, losses[0]))
        if setting.rule in GLOBAL and not setting.per_layer and all(record["lr"] == 1.0 for record in steps):
            lines += _rate_theorem(setting, steps, losses[0])
    certified = len(lines) > 1
    return Certificate(
        lines, _regime(steps), _checked(setting, records), _assumed(setting, records), _not_proved(setting, certified)
    )


def _unfit(setting: Setting, steps: Sequence[Record]) -> str | None:
    """What the records lack."""
    if len(steps) < 2:
        return f"at least 2 steps are needed, and the run has {len(steps)}"
    if any(record.get("loss") is None for record in steps):
        return "the loss of some steps was not recorded: call optimizer.step(loss=loss)"
    for place, record in enumerate(steps, start=1):
        for name in (*NUMBERS, *(["guarantee"] if record.get("guarantee") is not None else [])):
            if not is_number(record.get(name), sys.float_info.max if name == "loss" else LARGEST):
                return f"record {place} of the steps taken holds no number for {name}"
        if record["loss"] < setting.lower_bound:
            return (
                f"the loss of record {place} of the steps taken is {record['loss']:.6g}, below the lower_bound of "
                f"{setting.lower_bound:g}: give Monitor(..., lower_bound=) a number that the loss never goes below, "
                "whatever the weights"
            )
    return None


def _broken_assumption(setting: Setting, records: Sequence[Record]) -> str | None:
    """Which assumption the records refute."""
    if setting.mixed:
        return "the run went on with another rule, L, lower_bound or kind of batches than it began with"
    if setting.noise:
        return (
            f"the model draws random numbers in training ({setting.noise}), so the loss is another function at "
            "every step: set such modules to probability 0 or to eval()"
        )
    before: Record = {}
    for record in records:
        if before and record.get("step") != before.get("step", 0) + 1:
            return (
                f"the records jump from step {before.get('step')} to step {record.get('step')}: call "
                "monitor.update(optimizer) after every step"
            )
        if record.get("edited"):
            return f"the adapters were changed between step {before.get('step')} and step {record['step']}"
        if before and (before.get("data") is None) != (record.get("data") is None):
            return f"step {record['step']} was recorded with data= and its neighbour without: give it at every step"
        if before and record.get("data") != before.get("data"):
            return (
                f"step {record['step']} saw other data than step {before['step']} (their hashes differ), so the loss "
                "is not one function"
            )
        again, loss = before.get("again"), record.get("loss")
        if is_number(again, sys.float_info.max) and is_number(loss, sys.float_info.max):
            allowed = ROUNDING_UNITS * setting.precision * max(abs(again), abs(loss))
            if abs(again - loss) > allowed:
                return (
                    f"evaluated again after step {before['step']} the loss was {again:.10g}, and step {record['step']} "
                    f"began with {loss:.10g}: it is not the same function at every step"
                )
        before = record
    return None


def _proved(setting: Setting) -> bool:
    """Whether L was given, so that the decrease is known before the step; found by trial it is looked at after it."""
    return not setting.finds_smoothness


def _descent(falls: np.ndarray, allowance: np.ndarray) -> Line:
    held = falls >= -allowance
    worst = "" if held.all() else f"; largest rise {-falls.min():.3g}, after taken step {int(np.argmin(falls)) + 1}"
    figures = f"{held.sum()} of {len(held)} steps{worst}"
    return line("The loss fell at every step, up to its rounding.", figures, bool(held.all()), "observed")


def _guaranteed(setting: Setting, falls: np.ndarray, guarantees: np.ndarray, allowance: np.ndarray) -> Line:
    held = falls >= guarantees - allowance
    total = guarantees.sum()
    used = falls.sum() / total if total > 0 else math.inf
    return line(
        "Each step fell by at least what the rule guarantees."
        if _proved(setting)
        else "Each step fell by at least what the bound with the L of that step says.",
        f"{held.sum()} of {len(held)} steps; {used:.3g} times that in all",
        bool(held.all()),
        "proved" if _proved(setting) else "observed",
    )


def _gradient(setting: Setting, steps: Sequence[Record], guarantees: np.ndarray, first: float) -> Line:
    r"""The guarantees add up to at most the gap, and each is a weight times $\|\nabla J_t\|^2$."""
    squares = np.array([record["scaled_grad_norm"] ** 2 for record in steps[:-1]])
    smallest = float(squares.min())
    weights = float(np.sum(guarantees[squares > 0] / squares[squares > 0]))
    bound = (first - setting.lower_bound) / weights if weights > 0 else math.inf
    return line(
        "min ‖∇J‖² is at most what these decreases leave room for.",
        f"{smallest:.4g}, bound {bound:.4g}, ratio {smallest / bound if bound > 0 else 0:.2g}",
        smallest <= bound * (1 + 1e-9),
        "proved" if _proved(setting) else "observed",
    )


def _rate_theorem(setting: Setting, steps: Sequence[Record], first: float) -> list[Line]:
    assert setting.smoothness is not None
    gap, start = first - setting.lower_bound, steps[0]["scaled_stacked_norm"]
    known: StepGuarantee = GLOBAL[setting.rule](gap, start, setting.smoothness, other_parameters=setting.has_rest)
    # of the recorded steps alone: the sum before the first one belongs to steps that were not recorded
    total = steps[-2]["sum_eta"] - (steps[0]["sum_eta"] - steps[0]["eta"])
    count = len(steps) - 1
    smallest = min(record["scaled_grad_norm"] ** 2 for record in steps[:-1])
    bound, least = float(rate_bound(known, count)), float(sum_eta_bound(known, count))
    norm = steps[-1]["scaled_stacked_norm"]
    largest = float(stacked_norm_bound(gap, start, max(total, 0.0), known.fraction))
    return [
        line(
            "Σ η is at least what was proved before the run, Ω(√T).",
            f"{total:.4g}, bound {least:.4g}",
            total >= least * (1 - 1e-9),
            "proved",
        ),
        line(
            "min ‖∇J‖² is at most what was proved before the run, O(1/√T).",
            f"{smallest:.4g}, bound {bound:.4g}",
            smallest <= bound * (1 + 1e-9),
            "proved",
        ),
        line(
            "‖V‖ is at most ‖V₀‖ + √(Δ Σ η / fraction).",
            f"{norm:.4g}, bound {largest:.4g}",
            norm <= largest * (1 + 1e-9),
            "proved",
        ),
    ]


def _regime(steps: Sequence[Record]) -> str:
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


def _checked(setting: Setting, records: Sequence[Record]) -> list[str]:
    first, last = records[0]["step"], records[-1]["step"]
    found = [f"steps {first} to {last} were recorded without a gap"]
    if all(record.get("edited") is False for record in records[1:]):
        found.append("the adapters did not change between them, bit for bit")
    if setting.noise is not None:
        found.append("no module of the model says that it drops or disturbs anything")
    if all(record.get("data") is not None for record in records):
        found.append("every step saw the same data, by their hash")
    if all(is_number(record.get("again"), sys.float_info.max) for record in records[:-1]):
        found.append(
            "the loss evaluated again after each step is the one that the next step began with, up to its rounding"
        )
    return found


def _assumed(setting: Setting, records: Sequence[Record]) -> list[str]:
    found = []
    if not all(is_number(record.get("again"), sys.float_info.max) for record in records[:-1]):
        seen = " of the same data" if all(record.get("data") is not None for record in records) else ""
        drawn = (
            "; random numbers were drawn while it ran, as dropout written as a function would, and a data loader"
            if any(record.get("random") for record in records[1:])
            else ""
        )
        found.append(f"the loss was the same function{seen} at every step, as full_batch=True says{drawn}")
    unseen = [str(record["step"]) for record in records[1:] if record.get("edited") is None]
    if unseen:
        found.append(f"the adapters were left alone before {'step' if len(unseen) == 1 else 'steps'} {some(unseen)}")
    if setting.noise is None:
        found.append("the model draws no random numbers (the monitor was not given the model)")
    found.append(
        f"the loss is at least {setting.lower_bound:g} for all weights, also those that no adapter of this rank reaches"
    )
    if setting.smoothness is not None and not setting.finds_smoothness:
        found.append(f"the loss is L-smooth in the adapted weights with L = {setting.smoothness:.6g}, as given")
    found.append("losses and gradients belong together, and are exact up to their rounding")
    found.append("the files of the run were not edited")
    return found


def _not_proved(setting: Setting, guaranteed: bool) -> list[str]:
    found = ["anything about held-out data"]
    if setting.gradient_norm == "sketch":
        found.append(
            "the guarantees of the steps: the frozen weights' gradient was sketched, and a sketch can fall short"
        )
    if not guaranteed and setting.gradient_norm != "sketch":
        found.append(f"a decrease of each step: rule {setting.rule!r} guarantees none here")
    if setting.finds_smoothness:
        found.append("a rate in advance: L was found by trial, and each step's bound was looked at after it")
    elif setting.smoothness is not None:
        found.append("that L is right: it was given, not derived from the loss")
    return found
