"""What a person sees while a run goes on."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from lorate.cli.console import stderr, stdout
from lorate.cli.launch import is_first
from lorate.monitor import Alarm
from lorate.training import Listener
from lorate.training.plan import Plan


class TerminalListener(Listener):
    """A line for each phase, a bar with loss, step size and adapter norm during training.

    Where standard error is no terminal (a log file) a line is printed every tenth of the run instead of the bar.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not (stderr.is_terminal and is_first()),
        )
        self._task = self._progress.add_task("", total=None, figures="")
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, text: str) -> None:
        """Name what goes on now."""
        self._progress.update(self._task, description=text, figures="")
        if not stderr.is_terminal:
            self._print(text)

    def plan(self, plan: Plan) -> None:
        """Say what will be trained."""
        self._print(
            f"Training {plan.trainable:,} of {plan.parameters:,} parameters in {plan.adapted_layers} layers on "
            f"{plan.train_examples} records; {plan.eval_examples} held out."
        )

    def example(self, parts: Sequence[tuple[str, bool]]) -> None:
        """Show a record: what is learned is green and underlined, and stands in marks where there are no colours."""
        shown = Text("One record, the learned part marked:\n", style="bold")
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
        self._progress.update(self._task, completed=record["step"], total=total, figures=figures)
        tenth = max(1, total // 10)
        if not stderr.is_terminal and (record["step"] % tenth == 0 or record["step"] in (1, total)):
            self._print(f"step {record['step']}/{total}  {figures}")

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
