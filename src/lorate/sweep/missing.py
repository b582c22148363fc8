"""Do what is missing of a sweep."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lorate.errors import MissingExtraError
from lorate.extras import require
from lorate.sweep.folder import SweepFolder
from lorate.sweep.run import Run

Progress = Callable[[int, int, str], None]
"""Called with the runs done, their number, and the name of the last one."""
Done = tuple[int, Mapping[str, Any], float]
"""Place in the list, result and seconds of a run."""


def run_missing(
    runs: Sequence[Run], folder: SweepFolder, jobs: int | None = None, progress: Progress | None = None
) -> tuple[dict[str, dict[str, Any]], int]:
    """Do the runs that are not finished yet, several at a time, and keep each as it finishes.

    Args:
        runs: what is wanted.
        folder: where finished ones lie.
        jobs: processes; None: one per core. More than one needs joblib.
        progress: called after each run.

    Returns:
        The record of every run by name, in the order of ``runs``, and how many had to be done.

    Raises:
        MissingExtraError: joblib is needed and not installed.
    """
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = folder.finished(run)
        if record is not None:
            records[run.name] = record
    missing = [run for run in runs if run.name not in records]
    if progress is not None:
        progress(len(records), len(runs), "")
    for place, result, seconds in _execute(missing, (os.cpu_count() or 1) if jobs is None else jobs):
        run = missing[place]
        records[run.name] = folder.save(run, result, seconds)
        if progress is not None:
            progress(len(records), len(runs), run.name)
    return {run.name: records[run.name] for run in runs}, len(missing)


def _execute(runs: Sequence[Run], jobs: int) -> Iterator[Done]:
    """Each run as it finishes."""
    if jobs == 1 or len(runs) < 2:
        yield from (_timed(place, run) for place, run in enumerate(runs))
        return
    try:
        joblib = require("joblib", extra="experiments")
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}, or use a single process: --jobs 1") from error
    parallel = joblib.Parallel(n_jobs=min(jobs, len(runs)), return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(_timed)(place, run) for place, run in enumerate(runs))


def _timed(place: int, run: Run) -> Done:
    began = time.monotonic()
    return place, run.function(**run.arguments), time.monotonic() - began
