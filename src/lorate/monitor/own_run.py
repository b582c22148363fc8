"""The facts by which ``lorate report`` can draw records that no command of lorate's made."""

from importlib.metadata import version
from pathlib import Path

import torch

from lorate.errors import LorateError
from lorate.runs import RunDirectory
from lorate.runs.description import FORMAT
from lorate.runs.facts import now


class OwnRun:
    """Makes a directory a run, unless whoever runs it has done so; one end is recorded for each beginning.

    Args:
        directory: of the records.
    """

    def __init__(self, directory: Path) -> None:
        self._run = RunDirectory(directory)
        self._is_own: bool | None = None
        self._is_running = False

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """At each record; the first one, also after an end, says that the run is running."""
        if self._is_running or self._is_own is False:
            return
        if self._run.run.exists():
            self._is_own = self._is_running = self._is_ours()
            if self._is_own:
                self._run.write_run({**self._run.read_run(), "status": "running"})
            return
        self._is_own = self._is_running = True
        rule, name = getattr(optimizer, "rule", None), type(optimizer).__name__
        facts = {
            "name": getattr(rule, "name", name),
            "lr": float(optimizer.param_groups[0]["lr"]),
            "formula": getattr(rule, "formula", name),
        }
        started = {"lorate": version("lorate"), "format": FORMAT, "status": "running", "started": now()}
        self._run.write_run({**started, "rule": facts, "result": None})

    def end(self, status: str, seconds: float) -> None:
        """Say how it ended."""
        if self._is_running:
            self._is_running = False
            self._run.write_run({**self._run.read_run(), "status": status, "seconds": seconds})

    def _is_ours(self) -> bool:
        """Whether an earlier monitor has made it; a command of lorate names itself, and keeps the status."""
        try:
            return "command" not in self._run.read_run()
        except LorateError:  # not lorate's at all
            return False
