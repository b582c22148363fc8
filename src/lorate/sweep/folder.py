"""The run directory of an experiment: made or gone on with, never overwritten; one file a finished run."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lorate
from lorate.errors import LorateError
from lorate.runs import RunDirectory, RunFile, write_atomically
from lorate.runs.strict_json import encode
from lorate.sweep.backends import Backend, Run, execute

Progress = Callable[[int, int, str], None]
"""Called with the runs done, their number, and the name of the last one."""
NAME = re.compile(r"[A-Za-z0-9_=.,+-]+")
"""What a run may be called: its name is the name of a file."""


class SweepFolder(RunDirectory):
    """The files of one experiment, by name."""

    claims = RunFile("claims.json")
    """The claims with their verdicts."""
    results = RunFile("results.jsonl")
    """All results, one run a line."""

    @classmethod
    def make_or_resume(cls, path: Path, config: Mapping[str, Any]) -> "SweepFolder":
        """An empty directory, or the one of the same experiment, options (as in ``run.json``) and version of lorate.

        Raises:
            LorateError: the directory holds something else.
        """
        folder = cls(path)
        if not (path.is_dir() and any(path.iterdir())):
            cls.create(path)
            return folder
        try:
            info = folder.read_run()
        except LorateError:
            raise LorateError(f"{path} is not empty and holds no experiment; choose another --output.") from None
        if info.get("config") != dict(config):
            other = _words(info.get("config"))
            raise LorateError(f"{path} holds another run ({other}) and is not overwritten; choose another --output.")
        if info["lorate"] != lorate.__version__:
            raise LorateError(
                f"{path} was begun with lorate {info['lorate']} and this is {lorate.__version__}; "
                "choose another --output, so that one table does not mix two versions."
            )
        return folder

    def finished(self, run: Run) -> dict[str, Any] | None:
        """The result of a run that was finished with the same arguments; None if there is none."""
        path = self._file(run)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(record, dict) and record.get("arguments") == json.loads(encode(run.arguments))
        return record if same else None

    def save(self, run: Run, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Keep the result of a finished run, and return it as it will be read again."""
        path = self._file(run)
        path.parent.mkdir(exist_ok=True)
        text = encode({"run": run.name, "arguments": run.arguments, "seconds": seconds, "result": result})
        write_atomically(path, text + "\n")
        record: dict[str, Any] = json.loads(text)
        return record

    def _file(self, run: Run) -> Path:
        if not NAME.fullmatch(run.name):
            raise LorateError(f"{run.name!r} cannot name a run: use letters, digits and -_=.,+ only.")
        return self.inside(f"finished/{run.name}.json")


def run_missing(
    runs: Sequence[Run],
    folder: SweepFolder,
    jobs: int | None,
    progress: Progress | None,
    backend: Backend = Backend.JOBLIB,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Do the runs that are not finished yet, several at a time, and keep each as it finishes.

    Args:
        runs: what is wanted.
        folder: where finished ones lie.
        jobs: processes; None: one per core.
        progress: called after each run.
        backend: where they run, see `execute`.

    Returns:
        The record of every run by name, in the order of ``runs``, and how many had to be done.
    """
    records = {run.name: record for run in runs if (record := folder.finished(run)) is not None}
    missing = [run for run in runs if run.name not in records]
    if progress is not None:
        progress(len(records), len(runs), "")
    for place, result, seconds in execute(missing, jobs, backend):
        run = missing[place]
        records[run.name] = folder.save(run, result, seconds)
        if progress is not None:
            progress(len(records), len(runs), run.name)
    return {run.name: records[run.name] for run in runs}, len(missing)


def _words(config: Any) -> str:
    if not isinstance(config, Mapping):
        return "of lorate"
    if "experiment" not in config:
        return "no experiment"
    return ", ".join(f"{name} {value}" for name, value in config.items())
