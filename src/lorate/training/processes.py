"""Several processes train one run: they meet, agree before anything is written, and only the main one writes."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch

from lorate import ranks
from lorate.errors import LorateError, OtherProcessError
from lorate.extras import require
from lorate.runs import RunDirectory
from lorate.runs.signals import ended_as_by_ctrl_c

T = TypeVar("T")
TIMEOUT = 1800
"""Seconds after which a process that does not answer counts as lost; the environment's LORATE_TIMEOUT goes before."""


def default_device() -> str:
    """The first accelerator that torch sees, or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type


def own_device(wanted: str | None) -> str:
    """The device of this process; each of several on one machine has its own accelerator.

    Raises:
        LorateError: one accelerator is to serve several processes, or there are fewer than processes.
    """
    device = wanted or default_device()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cpu" or here == 1:
        return device
    if ":" in device:
        raise LorateError(f"device {device} is one device, and {here} processes train here; leave the number out.")
    if torch.accelerator.device_count() < here:
        raise LorateError(
            f"{here} processes need a device each, and there are {torch.accelerator.device_count()} of {device}; "
            "start fewer, or train on the cpu."
        )
    return f"{device}:{os.environ.get('LOCAL_RANK', '0')}"


def meet(device: str | None) -> None:
    """Join the other processes, if a launcher started several.

    Raises:
        LorateError: the launcher asks for more than data-parallel training.
    """
    for kind in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() in ("true", "1"):
            raise LorateError(
                f"lorate train is data-parallel, and accelerate launch is set to use {kind}; leave that out, or "
                "shard the model in a training loop of your own."
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        require("accelerate", extra="hf").PartialState(cpu=own_device(device) == "cpu", timeout=_timeout())


def _timeout() -> timedelta:
    text = os.environ.get("LORATE_TIMEOUT", str(TIMEOUT))
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise LorateError(f"LORATE_TIMEOUT must be a whole number of seconds, got {text[:40]!r}.")
    return timedelta(seconds=int(text))


@contextmanager
def together() -> Iterator[None]:
    """What fails in one process inside fails in all, so that none waits for one that is gone; the main one says why.

    Raises:
        LorateError: the first error of any process.
    """
    try:
        yield
    except Exception as error:
        ranks.everyones(str(error) if isinstance(error, LorateError) else f"{type(error).__name__}: {error}")
        if ranks.is_main() or not isinstance(error, LorateError):
            raise
        raise OtherProcessError(str(error)) from error
    faults = [fault for fault in ranks.everyones(None) if fault is not None]
    if faults:
        raise LorateError(faults[0]) if ranks.is_main() else OtherProcessError(faults[0])


def main_first(load: Callable[[], T]) -> T:
    """What all processes load from the same files; the main one comes first and fills the caches.

    Raises:
        LorateError: the first error of any process.
    """
    loaded: list[T] = []
    for is_turn in (ranks.is_main(), not ranks.is_main()):
        with together():
            if is_turn:
                loaded.append(load())
    return loaded[0]


class Bystander(RunDirectory):
    """The run directory as processes see it that do not write."""

    def write_run(self, info: Mapping[str, Any]) -> None:
        """The main process does."""

    def write_config(self, config: Mapping[str, Any]) -> None:
        """The main process does."""

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The main process holds it."""
        yield


def create_run(path: Path, *, force: bool) -> RunDirectory:
    """Make the run directory in the main process.

    Raises:
        LorateError: as for `RunDirectory.create`.
    """
    run: RunDirectory = Bystander(path)
    with together():
        if ranks.is_main():
            run = RunDirectory.create(path, force=force)
    return run


def open_run(path: str | Path) -> RunDirectory:
    """Open a run to go on with it, and meet the processes that do.

    Raises:
        LorateError: as for `RunDirectory.open`.
    """
    run = RunDirectory.open(path)
    try:
        device = run.read_config().get("device")
    except LorateError:  # `recover` says more about it
        device = None
    meet(device if isinstance(device, str) else None)
    return run if ranks.is_main() else Bystander(path)


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    """Hold the run in the main process, or fail in all; inside, a request to end is like Ctrl-C.

    Raises:
        LorateError: another run of lorate train holds it.
    """
    with ExitStack() as stack:
        with together():
            stack.enter_context(run.in_use())
        stack.enter_context(ended_as_by_ctrl_c())
        yield


def check_processes(run: RunDirectory, info: Mapping[str, Any]) -> None:
    """A run goes on with as many processes as it began with, so that each step sees the same records.

    Raises:
        LorateError: there are more or fewer.
    """
    began, now = int(info.get("processes", 1)), ranks.world_size()
    if began != now:
        raise LorateError(f"{run.path} was trained by {began} processes, not {now}: go on with --processes {began}.")


@contextmanager
def noticing_lost_processes() -> Iterator[None]:
    """A connection to another process that breaks is not this one's error.

    Raises:
        OtherProcessError: it broke.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise OtherProcessError(f"{_LOST}, and says why") from error


def reason(error: BaseException) -> str:
    """What ``run.json`` says about an error that ended the run."""
    return f"{_LOST}." if _is_lost(error) else str(error)


_BROKEN = re.compile("gloo|pair closure|Connection (closed|reset)|Timed out waiting|Broken pipe")
_LOST = "another process of the run ended or did not answer"


def _is_lost(error: BaseException) -> bool:
    lost = isinstance(error, torch.distributed.DistBackendError) or _BROKEN.search(str(error)) is not None
    return ranks.world_size() > 1 and isinstance(error, RuntimeError) and lost
