"""What came out of a run, in words that claim no more than was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lorate.report.load import RunData
from lorate.report.words import count, listing, number, numeral, percent, whole

Tone = Literal["good", "mixed", "bad", "open"]

CLEAR = 2.0
"""A change counts as clear when it is larger than this many standard errors."""


@dataclass(frozen=True)
class Judgement:
    """A headline, further sentences, and the tone in which the page shows them."""

    tone: Tone
    headline: str
    details: Sequence[str]


def judge(run: RunData) -> Judgement:
    """What came out of a run, by its held-out loss, alarms, skipped steps and how it ended.

    ``good``: finished, the held-out loss fell by more than two standard errors, no alarm, no skipped step.
    ``bad``: failed, or the held-out loss clearly rose. ``open``: nothing held out was measured.
    ``mixed``: everything else.
    """
    headline, trend = _outcome(run)
    troubled = bool(run.tally.alarm_total or run.tally.skipped_total)
    tone: Tone = "mixed"
    if run.status == "failed" or trend == "rose":
        tone = "bad"
    elif trend == "fell" and run.status == "finished" and not troubled:
        tone = "good"
    elif trend == "unknown" and not troubled and run.status in ("running", "finished", ""):
        tone = "open"
    result = run.part("result")
    early = f"The run {words}." if (words := result.get("ended")) else ""
    details = (str(result.get("chosen") or ""), _ending(run), early, _alarms(run), _skipped(run))
    return Judgement(tone, headline, [words for words in details if words])


def held_out_change(run: RunData) -> tuple[float, float, float | None] | None:
    """Held-out loss before and after, and the standard error of their paired difference; None if not measured."""
    result = run.part("result")
    before, after = number(result.get("eval_before")), number(result.get("eval_after"))
    if before is None or after is None:
        return None
    error = number(result.get("eval_change_se"))
    return before, after, error if error is not None and error > 0 else None


def training_change(run: RunData) -> tuple[float, float] | None:
    """Mean training loss over the first and over the last fifth of the steps; None with fewer than 5 losses."""
    means = run.track.series.means.get("loss", ())
    losses = sum(records for _, _, records in means)
    if losses < 5:
        return None
    share = losses / 5

    def leading(stretch: Sequence[tuple[float, float, int]]) -> float:
        total = weight = 0.0
        for _, mean, records in stretch:
            taken = min(records, share - weight)
            total, weight = total + taken * mean, weight + taken
            if weight >= share:
                break
        return total / weight

    return leading(means), leading(means[::-1])


def _outcome(run: RunData) -> tuple[str, Literal["fell", "rose", "same", "unknown"]]:
    change = held_out_change(run)
    if change is not None:
        before, after, error = change
        examples = number(run.part("result").get("eval_examples"))
        on = f" on {whole(examples)} examples" if examples else ""
        if after == before:
            return f"Held-out loss{on} did not change ({numeral(after)}).", "same"
        relative = f" by {percent((after - before) / before).lstrip('−+')}" if before > 0 else ""
        moved = "fell" if after < before else "rose"
        words = f"Held-out loss{on} {moved}{relative} ({numeral(before)} to {numeral(after)})"
        if error is None:
            return f"{words}; its standard error is not known.", "same"
        size = abs(after - before) / error
        amount = f"{size:.1f}" if size < 10 else f"{size:.0f}"
        if size <= CLEAR:
            return f"{words}, only {amount} standard errors: no clear change.", "same"
        return f"{words}, {amount} standard errors.", "fell" if after < before else "rose"
    steps, losses, _ = run.track.held_out()
    if len(losses) > 1:
        return (
            f"Held-out loss {_direction(losses[0], losses[-1])} from {numeral(losses[0])} at step {whole(steps[0])} to "
            f"{numeral(losses[-1])} at step {whole(steps[-1])}; there is no final comparison yet.",
            "unknown",
        )
    training = training_change(run)
    if training is not None:
        first, last = training
        return (
            f"Training loss {_direction(first, last)} from {numeral(first)} (mean of the first fifth of the steps) "
            f"to {numeral(last)} (mean of the last fifth). No held-out loss was measured.",
            "unknown",
        )
    if run.track.series.total == 0:
        return "No step has been recorded.", "unknown"
    return f"Only {count(run.track.series.total, 'step')} recorded: too few to judge.", "unknown"


def _direction(first: float, last: float) -> str:
    return "fell" if last < first else "rose" if last > first else "stayed"


def _ending(run: RunData) -> str:
    planned = number(run.part("config").get("steps"))
    of = f" of {whole(planned)}" if planned else ""
    at = f"step {whole(run.last_step)}{of}"
    # a loop of one's own leaves no options to go on with
    resume = "; lorate train --resume continues it" if run.part("config") else ""
    return {
        "finished": "",
        "running": f"The run is marked as running; its last record is {at}.",
        "stopped": f"The run was stopped at {at}.",
        "interrupted": f"The run was interrupted at {at}{resume}.",
        "failed": f"The run failed at {at}.",
    }.get(run.status, "It is not known how the run ended.")


def _alarms(run: RunData) -> str:
    total = run.tally.alarm_total
    if not total:
        return "No alarms." if run.track.series.total else ""
    kinds = listing([f"{kind} ({times:,})" if times > 1 else kind for kind, times in run.tally.kinds.items()])
    first = run.tally.alarms[0]
    return f"{count(total, 'alarm').capitalize()}: {kinds}; the first at step {whole(first.first)}."


def _skipped(run: RunData) -> str:
    skipped = run.tally.skipped_total
    if not skipped:
        return ""
    reasons = listing([f"{reason} ({times:,})" for reason, times in run.tally.skipped.items()], most=3)
    were = "was" if skipped == 1 else "were"
    return f"{skipped:,} of {count(run.track.series.total, 'step')} {were} skipped: {reasons}."


def comparison(runs: Sequence[RunData]) -> str:
    """One sentence on several runs: which ended lowest, or why that cannot be said."""
    settings = {(str(run.part("model").get("name")), str(run.part("data").get("name"))) for run in runs}
    if len(settings) > 1:
        return "The runs differ in model or data, so their losses are not comparable."
    ends = sorted((change[1], run.name) for run in runs if (change := held_out_change(run)) is not None)
    if len(ends) < 2:
        return "Fewer than two of the runs have a final held-out loss, so none is called the best."
    (best, name), (second, _) = ends[0], ends[1]
    starts = [change[0] for run in runs if (change := held_out_change(run)) is not None]
    if not math.isclose(min(starts), max(starts), rel_tol=1e-3):
        return "The runs start from different held-out losses, so they were not measured on the same footing."
    if math.isclose(best, second, rel_tol=1e-4):
        return f"The two lowest final held-out losses are alike ({numeral(best)})."
    missing = len(runs) - len(ends)
    note = f" {count(missing, 'run').capitalize()} without a final held-out loss left out." if missing else ""
    return (
        f"Lowest final held-out loss: {name}, {numeral(best)} (next {numeral(second)}). "
        f"It was not measured whether the difference is more than chance.{note}"
    )
