"""Held-out evaluations during a run: when they are made, what is recorded of them, and when the run ends early."""

import re
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks
from lorate.errors import LorateError
from lorate.jsonl import JsonlWriter
from lorate.training.alarm_command import Alarms
from lorate.training.evaluation import Scores, evaluate, standard_error
from lorate.training.listener import Listener
from lorate.training.preparation import Prepared
from lorate.training.processes import together
from lorate.training.selection import Selection


class Evaluations(TrainerCallback):
    """Evaluate every few steps, record it, keep the best adapter, and end a run that waits too long for a better one.

    A record has ``step``, ``eval_loss``, ``eval_loss_se``, the figures of `Scores`, ``metric`` where the user has one,
    ``choice`` (what the best adapter has the lowest of) and ``alarms``.

    Args:
        prepared: options and data.
        trainer: its evaluation data and model are used.
        writer: gets the records; None in processes that do not write.
        listener: hears of progress and results.
        alarms: gets what the evaluations raise.

    Attributes:
        selection: must be set before training begins.
        ended: the sentence why the run ended early; empty if it did not.
    """

    selection: Selection

    def __init__(
        self, prepared: Prepared, trainer: Any, writer: JsonlWriter | None, listener: Listener, alarms: Alarms
    ) -> None:
        self._config, self._judged = prepared.config, prepared.judged
        self._trainer, self._writer, self._listener, self._alarms = trainer, writer, listener, alarms
        self._last: tuple[int, Scores] | None = None
        self.ended = ""

    @property
    def examples(self) -> int:
        """How many are held out."""
        return len(self._trainer.eval_dataset)

    def scores(self) -> Scores:
        """Scores of the held-out examples now."""
        return evaluate(self._trainer, self._judged, self._listener.progress)

    def record(self, step: int, scores: Scores, metric: float | None, **more: Any) -> None:
        """Write and show an evaluation."""
        mean, error = float(scores.losses.mean()), standard_error(scores.losses)
        figures = scores.figures() | ({} if metric is None else {"metric": metric})
        if self._writer is not None:
            self._writer.truncate_after(step - 1)  # a run that begins again, or whose last step is evaluated again
            self._writer.write({"step": step, "eval_loss": mean, "eval_loss_se": error, **figures, **more})
        self._listener.evaluation(step, mean, error)

    def at(self, step: int) -> Scores:
        """Evaluate the adapter of now, unless it was."""
        if self._last is not None and self._last[0] == step:
            return self._last[1]
        scores, selection = self.scores(), self.selection
        losses = scores.losses
        with together():
            selection.save(step, losses)
            metric = self.metric(selection.place(step))
        score = selection.score(losses, metric)
        alarm = selection.add(step, losses, score)
        self.record(step, scores, metric, choice=score, alarms=[] if alarm is None else [asdict(alarm)])
        if alarm is not None:
            self._alarms(step, alarm)
        self._last = (step, scores)
        return scores

    def metric(self, adapter: Path) -> float | None:
        """The last number that the user's own command prints about an adapter; None without such a command.

        Raises:
            LorateError: the command fails, or prints no number.
        """
        command = self._config.metric_command
        if command is None:
            return None
        found: float | str = ""
        if ranks.is_main():
            try:
                done = subprocess.run([*shlex.split(command), str(adapter)], capture_output=True, text=True)
                numbers = re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", done.stdout)
                words = (done.stderr or done.stdout).strip().splitlines()[-1:]
                found = float(numbers[-1]) if numbers and done.returncode == 0 else "".join(words)[:200] or "nothing"
            except (OSError, ValueError) as error:
                found = str(error)
        found = ranks.everyones(found)[0]
        if isinstance(found, str):
            raise LorateError(
                f"--metric-command {command!r} should print a number about the adapter whose directory it gets as its "
                f"last argument, and exit with 0; it printed: {found}."
            )
        return found

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate in between; the last step is evaluated by whoever ends the run."""
        if state.global_step % self._config.evaluation_interval or state.global_step >= state.max_steps:
            return
        self.at(state.global_step)
        patience = self._config.patience
        if patience is not None and self.selection.waits >= patience:
            best = self.selection.best
            self.ended = f"ended early: {patience} evaluations in a row were no better than that at step {best}"
            control.should_training_stop = True
