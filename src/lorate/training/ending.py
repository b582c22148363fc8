"""How a run ends: which adapter is kept, how it compares with the untrained one, and what is written of that."""

import time
from dataclasses import dataclass
from typing import Any, Literal

from lorate import ranks
from lorate.report import write_report
from lorate.runs import RunDirectory
from lorate.runs.facts import now
from lorate.training.evaluation import Change, Scores, paired_change
from lorate.training.heldout import Evaluations
from lorate.training.listener import Listener
from lorate.training.outputs import save_adapter, write_usage
from lorate.training.preparation import Prepared
from lorate.training.samples import answers
from lorate.training.selection import halves
from lorate.training.untrained import Untrained, write_json

Status = Literal["finished", "stopped", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: ``"finished"``, ``"stopped"`` by an alarm, or ``"interrupted"`` by Ctrl-C.
        steps: steps done in all.
        change: held-out loss before and after, with the kept adapter; None if interrupted.
        samples: prompts with what the model said before and after.
        run: the run directory.
        seconds: wall time of this session.
        kept: the step whose adapter is kept.
        chosen: how it was chosen, in a sentence; empty for the last one.
        figures: accuracy and the like, before and after.
    """

    status: Status
    steps: int
    change: Change | None
    samples: list[dict[str, str]]
    run: RunDirectory
    seconds: float
    kept: int = 0
    chosen: str = ""
    figures: dict[str, tuple[float, float]] | None = None


def end(
    run: RunDirectory,
    prepared: Prepared,
    evaluations: Evaluations,
    before: Untrained,
    *,
    status: Status,
    step: int,
    started: float,
    listener: Listener,
) -> Outcome:
    """Evaluate the last adapter, put the one that is kept into the model, compare, and write all files.

    Args:
        run: the run directory.
        prepared: options, data and model.
        evaluations: of this run.
        before: what the untrained adapter did.
        status: how the run ended.
        step: the last one.
        started: clock at the start of this session.
        listener: hears what happens.
    """
    config, selection, samples = prepared.config, evaluations.selection, before.samples
    change, chosen, figures = None, "", None
    latest = None
    if status != "interrupted":
        listener.phase("Evaluating and sampling")
        latest = evaluations.at(step)
    best = selection.best
    kept = step if config.keep == "last" or best is None else best
    if kept != step:
        selection.restore(kept)
    _, judges = halves(len(before.scores.losses), config.keep)
    if best is not None and config.keep == "best":
        why = "the lowest held-out loss" if config.metric_command is None else "the best metric"
        chosen = _words(kept, step, why, judges, len(before.scores.losses[judges]))
    if latest is not None:
        after = latest if kept == step else evaluations.scores()
        first, last = (Scores(scores.table[judges], scores.judged) for scores in (before.scores, after))
        change = paired_change(first.losses, last.losses)
        figures = {name: (value, last.figures()[name]) for name, value in first.figures().items()}
        if before.metric is not None:
            figures["metric"] = (before.metric, -selection.scored(kept))
        if ranks.is_main():
            replies = answers(prepared, [sample["prompt"] for sample in samples])
            samples = [sample | {"after": reply} for sample, reply in zip(samples, replies, strict=True)]
            write_json(run.samples, samples)
    listener.phase("Saving")
    seconds = time.monotonic() - started
    outcome = Outcome(status, step, change, samples, run, seconds, kept, chosen, figures)
    if ranks.is_main():
        _write(outcome, prepared, evaluations.ended)
    return outcome


def _words(kept: int, last: int, why: str, judges: slice, examples: int) -> str:
    which = "the last step" if kept == last else f"step {kept} of {last}"
    on = (
        "these same examples, so the number is a little too good"
        if judges.step is None
        else f"{examples} other held-out examples"
    )
    return f"The adapter of {which} was kept, because it has {why}. It was chosen on {on}."


def _write(outcome: Outcome, prepared: Prepared, ended: str) -> None:
    run, change = outcome.run, outcome.change
    save_adapter(prepared, outcome)
    write_usage(run, prepared)
    info = run.read_run()
    result: dict[str, Any] | None = None
    if change is not None:
        result = {
            "eval_before": change.before,
            "eval_after": change.after,
            "eval_change": change.relative,
            "eval_change_se": change.standard_error,
            "eval_examples": change.examples,
            "kept": outcome.kept,
            "chosen": outcome.chosen,
            "ended": ended,
            "figures": outcome.figures,
        }
    total = round(info.get("seconds", 0.0) + outcome.seconds, 1)
    run.write_run({**info, "status": outcome.status, "finished": now(), "seconds": total, "result": result})
    write_report([run.path], run.report)
