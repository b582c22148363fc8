"""The facts by which ``lorate report`` can draw records that no command of lorate's made."""

from importlib.metadata import version
from pathlib import Path

from lorate.optim import LoraOptimizer
from lorate.runs import RunDirectory
from lorate.runs.facts import now


class OwnRun:
    """Makes a directory a run, unless whoever runs it has done so; one end is recorded for each beginning.

    Args:
        directory: of the records.
    """

    def __init__(self, directory: Path) -> None:
        self._run = RunDirectory(directory)
        self._is_own = self._is_running = False

    def begin(self, optimizer: LoraOptimizer) -> None:
        """At the first record."""
        if self._run.run.exists():
            return
        rule, lr = optimizer.rule, optimizer.param_groups[0]["lr"]
        self._is_own = self._is_running = True
        facts = {"name": rule.name, "lr": float(lr), "formula": rule.formula}
        started = {"lorate": version("lorate"), "status": "running", "started": now()}
        self._run.write_run({**started, "rule": facts, "result": None})

    def go_on(self) -> None:
        """After an end."""
        if self._is_own:
            self._is_running = True
            self._run.write_run({**self._run.read_run(), "status": "running"})

    def end(self, status: str, seconds: float) -> None:
        """Say how it ended."""
        if self._is_running:
            self._is_running = False
            self._run.write_run({**self._run.read_run(), "status": status, "seconds": seconds})
