"""Do what is missing of a sweep."""

from collections.abc import Callable, Sequence
from typing import Any

from lorate.sweep.backends import Backend, execute
from lorate.sweep.folder import SweepFolder
from lorate.sweep.run import Run

Progress = Callable[[int, int, str], None]
"""Called with the runs done, their number, and the name of the last one."""


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
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = folder.finished(run)
        if record is not None:
            records[run.name] = record
    missing = [run for run in runs if run.name not in records]
    if progress is not None:
        progress(len(records), len(runs), "")
    for place, result, seconds in execute(missing, jobs, backend):
        run = missing[place]
        records[run.name] = folder.save(run, result, seconds)
        if progress is not None:
            progress(len(records), len(runs), run.name)
    return {run.name: records[run.name] for run in runs}, len(missing)
