"""Where the runs of a sweep are done: in this process, in several of this machine, or on a Ray cluster."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require

Done = tuple[int, Mapping[str, Any], float]
"""Place in the list, result and seconds of a run."""


@dataclass(frozen=True)
class Run:
    """One piece of work, done in a process of its own.

    Attributes:
        name: unique in the sweep, letters, digits and ``-_=.,+`` only; names the file of the result.
        function: a function of a module, called with the arguments; returns what JSON can hold.
        arguments: plain values.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    arguments: Mapping[str, Any]


class Backend(StrEnum):
    """What hands out the runs."""

    JOBLIB = "joblib"
    RAY = "ray"


def execute(runs: Sequence[Run], jobs: int | None, backend: Backend = Backend.JOBLIB) -> Iterator[Done]:
    """Do runs, several at a time, and yield each as it finishes.

    Every run computes on its own what its arguments say: the backend changes where and in which order, not what. Only
    the number of threads, on which the last digit of a sum may depend, is the backend's too: one a run on Ray, unless
    ``OMP_NUM_THREADS`` says otherwise.

    Args:
        runs: what to do.
        jobs: at a time; None: one a core, of the whole cluster on Ray.
        backend: ``joblib``: processes of this machine, this one alone if one suffices; ``ray``: the cluster that
            ``RAY_ADDRESS`` names (``auto``: the one that this machine is in), or else a new one of this machine, which
            nobody else can reach and which ends with the runs.

    Raises:
        MissingExtraError: joblib or Ray is needed and not installed.
        LorateError: there is no Ray cluster at ``RAY_ADDRESS``, or it lost a run.
    """
    if backend is Backend.RAY:
        yield from _on_ray(runs, jobs)
        return
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    if jobs == 1 or len(runs) < 2:
        yield from (_timed(place, run) for place, run in enumerate(runs))
        return
    joblib = require("joblib", extra="experiments")
    parallel = joblib.Parallel(n_jobs=min(jobs, len(runs)), return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(_timed)(place, run) for place, run in enumerate(runs))


def _on_ray(runs: Sequence[Run], jobs: int | None) -> Iterator[Done]:
    """Ray's own tasks: its backend of joblib returns nothing before everything is done, so nothing could be kept."""
    with _cluster() as ray:
        task = ray.remote(max_retries=0)(_timed)
        waiting = iter(enumerate(runs))
        started = [task.remote(place, run) for place, run in islice(waiting, jobs)]
        try:
            while started:
                (done,), started = ray.wait(started, num_returns=1)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # as it was raised, without Ray's copy of the worker's traceback
                except ray.exceptions.RayError as error:
                    reason = str(error).splitlines()[0]
                    raise LorateError(f"Ray lost a run ({reason}); the same command does what is missing.") from error
                started += [task.remote(place, run) for place, run in islice(waiting, 1)]
        finally:
            for left in started:
                ray.cancel(left, force=True)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to its cluster; left as it was found."""
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked for
    if address == "local":
        # Ray reads this when imported. Without it, it listens on every network that the machine is in.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = require("ray", extra="ray")
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LorateError(f"Ray cannot be started or reached at {address!r}: {str(error).splitlines()[0]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _timed(place: int, run: Run) -> Done:
    began = time.monotonic()
    return place, run.function(**run.arguments), time.monotonic() - began
