"""Do what is missing of a sweep."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lorate.errors import MissingExtraError
from lorate.extras import require
from lorate.freed_memory import keep_freed_memory
from lorate.sweep.folder import SweepFolder
from lorate.sweep.run import Run

Progress = Callable[[int, int, str], None]
"""Called with the runs done, their number, and the name of the last one."""
Done = tuple[int, Mapping[str, Any], float]
"""Place in the list, result and seconds of a run."""


def run_missing(
    runs: Sequence[Run],
    folder: SweepFolder,
    jobs: int | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Do the runs that are not finished yet, several at a time, and keep each as it finishes.

    Args:
        runs: what is wanted.
        folder: where finished ones lie.
        jobs: processes; None: one per core. More than one needs joblib.
        progress: called after each run.
        threads: of each process, for numbers that do not depend on the machine: sums are rounded in the order in which
            threads share them. None leaves it to torch and joblib. A number needs threadpoolctl.

    Returns:
        The record of every run by name, in the order of ``runs``, and how many had to be done.

    Raises:
        MissingExtraError: joblib or threadpoolctl is needed and not installed.
    """
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = folder.finished(run)
        if record is not None:
            records[run.name] = record
    missing = [run for run in runs if run.name not in records]
    if progress is not None:
        progress(len(records), len(runs), "")
    for place, result, seconds in _execute(missing, (os.cpu_count() or 1) if jobs is None else jobs, threads):
        run = missing[place]
        records[run.name] = folder.save(run, result, seconds)
        if progress is not None:
            progress(len(records), len(runs), run.name)
    return {run.name: records[run.name] for run in runs}, len(missing)


def _execute(runs: Sequence[Run], jobs: int, threads: int | None) -> Iterator[Done]:
    """Each run as it finishes."""
    if jobs == 1 or len(runs) < 2:
        yield from (_timed(place, run, threads) for place, run in enumerate(runs))
        return
    try:
        joblib = require("joblib", extra="experiments")
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}, or use a single process: --jobs 1") from error
    parallel = joblib.Parallel(n_jobs=min(jobs, len(runs)), return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(_in_a_worker)(place, run, threads) for place, run in enumerate(runs))


def _in_a_worker(place: int, run: Run, threads: int | None) -> Done:
    keep_freed_memory()
    return _timed(place, run, threads)


def _timed(place: int, run: Run, threads: int | None) -> Done:
    began = time.monotonic()
    with _limited(threads):
        return place, run.function(**run.arguments), time.monotonic() - began


@contextmanager
def _limited(threads: int | None) -> Iterator[None]:
    """Inside, torch and NumPy compute with so many threads."""
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    with require("threadpoolctl", extra="experiments").threadpool_limits(threads):
        torch.set_num_threads(threads)  # its MKL is built in, where threadpoolctl does not find it
        try:
            yield
        finally:
            torch.set_num_threads(before)
