"""What a person sees while a run goes on."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lorate.cli.console import stderr, stdout
from lorate.cli.launch import is_first
from lorate.monitor import Alarm
from lorate.report.words import duration
from lorate.training import Listener
from lorate.training.plan import Plan

MINUTE = 60.0
"""Seconds between lines where the output is not a terminal, at most."""

FEW = 5.0
"""Seconds before the first line of what takes longer; the gaps between the next ones double up to a minute."""


class CountColumn(ProgressColumn):
    """Done and total; nothing while the total is not known."""

    def render(self, task: Task) -> Text:
        """As 7/40, or 7/40 MB."""
        if task.total is None:
            return Text()
        unit = task.fields.get("unit", "")
        return Text(f"{task.completed:.0f}/{task.total:.0f} {unit}".rstrip(), "progress.download")


class LeftColumn(TimeRemainingColumn):
    """The time left; nothing while the total is not known."""

    def render(self, task: Task) -> Text:
        """As 0:03:14 left."""
        return Text() if task.total is None else super().render(task).append(" left", "dim")


class TerminalListener(Listener):
    """A line for each phase, a bar with loss, step size and adapter norm during training.

    Where standard error is not a terminal (a log file), a line with the time left replaces the bar, every tenth of the
    run and at least every minute.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            CountColumn(),
            TextColumn("{task.fields[figures]}"),
            LeftColumn(),
            console=stderr,
            transient=True,
            disable=not (stderr.is_terminal and is_first()),
        )
        self._task = self._progress.add_task("", total=None, figures="", unit="")
        self._began: tuple[float, int] | None = None
        self._loop = (0, 0, 0, 0.0)
        self._said = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, text: str) -> None:
        """Name what goes on now."""
        self._progress.reset(self._task, description=text, figures="", unit="")
        self._progress.tasks[0].total = None  # as an argument, None means no change
        self._began, self._said, self._loop = None, time.monotonic(), (0, 0, 0, 0.0)
        if not stderr.is_terminal:
            self._print(text)

    def progress(self, done: int, total: int, unit: str = "", /) -> None:
        """Move the bar; or say so after some seconds, with the time left."""
        if self._began is None:
            self._progress.update(self._task, completed=done, total=total or None, unit=unit)
        if stderr.is_terminal:
            return
        now, (before, of, first, began) = time.monotonic(), self._loop
        if not began or total != of or done < before:  # another loop
            first, began, self._said = done, now, now
        self._loop = (done, total, first, began)
        if first < done != total and now - self._said > min(MINUTE, max(FEW, self._said - began)):
            self._said = now
            amount = f"{total:,} {unit}".rstrip()
            left = f" of {amount}, {duration((now - began) / (done - first) * (total - done))} left" if total else ""
            self._print(f"  {'evaluating ' if self._began else ''}{done:,}{left}")

    def plan(self, plan: Plan) -> None:
        """Say what will be trained."""
        self._print(
            f"{plan.steps} steps of {plan.samples_per_step} samples, {plan.epochs:.1f} epochs, on "
            f"{plan.train_examples} records; {plan.eval_examples} held out. Training {plan.trainable:,} of "
            f"{plan.parameters:,} parameters in {plan.adapted_layers} layers."
        )

    def example(self, parts: Sequence[tuple[str, bool]], title: str = "One record, the learned part marked:") -> None:
        """Show a record: what is learned is green and underlined, and is put in marks where there are no colours."""
        shown = Text(f"{title}\n", style="bold")
        for text, is_learned in parts:
            if is_learned:
                text = text if stdout.is_terminal else f"⟦{text}⟧"
            shown.append(text, style="not bold green underline" if is_learned else "not bold dim")
        stdout.print(shown, soft_wrap=True)

    def notice(self, text: str) -> None:
        """Show a notice above the bar."""
        self._print(f"[bold yellow]Notice:[/] {escape(text)}")

    def step(self, record: Mapping[str, Any], total: int) -> None:
        """Move the bar."""
        figures = f"loss {_short(record['loss'])}  η {_short(record['eta'])}  ‖V‖ {_short(record['stacked_norm'])}"
        if (bound := record.get("change_bound")) is not None and bound < 0:
            figures += f"  fell by {_short(-bound)} at least"
        step, now = record["step"], time.monotonic()
        self._began = self._began or (now, step)
        self._progress.update(self._task, description="Training", completed=step, total=total, figures=figures)
        is_due = step % max(1, total // 10) == 0 or step in (1, total) or now - self._said > MINUTE
        if not stderr.is_terminal and is_due:
            self._said = now
            self._print(f"step {step}/{total}  {figures}{self._left(step, total)}")

    def _left(self, step: int, total: int) -> str:
        began, first = self._began or (0.0, 0)
        if step <= first or step >= total:
            return ""
        return f"  {duration((time.monotonic() - began) / (step - first) * (total - step))} left"

    def alarm(self, alarm: Alarm) -> None:
        """Show an alarm above the bar."""
        self._print(f"[bold yellow]Alarm:[/] {escape(alarm.message)} {escape(alarm.remedy)}")

    def evaluation(self, step: int, loss: float, standard_error: float) -> None:
        """Show a held-out loss above the bar."""
        spread = "" if math.isnan(standard_error) else f" (± {standard_error:.4f} over examples)"
        self._print(f"Held-out loss at step {step}: {loss:.4f}{spread}")

    def _print(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
