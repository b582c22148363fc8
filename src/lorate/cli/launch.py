"""``lorate train --processes N``: the same command line in N processes of this machine, and their common end.

Like torchrun, with three differences: Ctrl-C and requests to end reach each process once, so that the run saves a
checkpoint; an error is said once, with the process that it began in; and no process outlives the launcher.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from rich.markup import escape

from lorate.cli.console import shown, stderr
from lorate.runs.signals import ENDING, handling

OTHER_FAILED = 3
"""Exit code of a process that ended because another one did."""

PATIENCE = 15.0
"""Seconds that the others get to end by themselves, and then again to obey."""

FAREWELL = 300.0
"""Seconds that a process gets to save a checkpoint after the launcher is gone."""

_PIPE = "LORATE_LAUNCHER"


def is_launched() -> bool:
    """Whether a launcher (this one, torchrun, ``accelerate launch``) started this process."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Whether this process has the terminal."""
    return os.environ.get("RANK", "0") == "0"


def leave(code: int) -> NoReturn:
    """End a process that a launcher started, at once.

    Threads of torch's connections to the other processes may still run, and now and then abort Python (SIGABRT) while
    it takes itself apart, after all the work is done. What libraries wanted to do at the end is done first.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def follow_launcher() -> None:
    """End with the launcher, however it ends: as by a request to end, and at once if that does not help.

    The launcher holds the other end of a pipe, which the system closes for it if it is killed.
    """
    pipe = os.environ.pop(_PIPE, None)
    if pipe is None or os.name == "nt":  # Windows hands no pipes on
        return

    def wait() -> None:
        with suppress(OSError):
            os.read(int(pipe), 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(FAREWELL)
        os._exit(OTHER_FAILED)

    threading.Thread(target=wait, daemon=True).start()


def launch(count: int, words: Sequence[str]) -> int:
    """Run ``lorate`` with these words in several processes.

    The first one has the terminal; what the others say is shown if one of them is the cause of a failure.

    Args:
        count: how many.
        words: the command line after ``lorate``.

    Returns:
        The exit code: of the first process, or of the one that failed.
    """
    with TemporaryDirectory() as folder:
        notes = [Path(folder) / str(rank) for rank in range(count)]
        port, (read, write) = _free_port(), os.pipe()
        children = [_start(rank, count, port, words, notes[rank], read) for rank in range(count)]
        os.close(read)
        with _passing_on(children):
            failed, is_hanging = _wait(children)
        os.close(write)
        codes = [_exit_code(child) for child in children]
        if failed is None:
            return max(codes)
        if is_hanging:
            _say(f"process {failed} did not answer the others and was ended")
            return 1
        said = "" if failed == 0 else shown(notes[failed].read_text(encoding="utf-8", errors="replace"))
        if failed != 0 and codes[0] in (0, OTHER_FAILED, 128 + signal.SIGTERM, 128 + signal.SIGKILL):
            stderr.print(f"Process {failed} failed:", soft_wrap=True)
            sys.stderr.write(said)
        if codes[failed] > 128 and codes[failed] != 130:
            _say(f"process {failed} was killed by signal {codes[failed] - 128}")
        elif codes[failed] == 1:  # no mistake of the user, which is one sentence already
            last = (said.strip().splitlines() or ["its error is above"])[-1]
            _say(f"process {failed} failed: {last}")
        return codes[failed]


def _say(text: str) -> None:
    stderr.print(f"[bold red]lorate:[/] {escape(text)}", soft_wrap=True)


def _start(rank: int, count: int, port: int, words: Sequence[str], notes: Path, pipe: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // count))
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    environment = {
        "OMP_NUM_THREADS": threads,
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # else each process warns that all of its parameters are in use
        **os.environ,
        **{name: str(value) for name, value in place.items()},
        "MASTER_ADDR": "127.0.0.1",
        _PIPE: str(pipe),
    }
    command = [sys.executable, "-m", "lorate", *words]
    handed_on = [] if os.name == "nt" else [pipe]
    if rank == 0:
        # a session of its own: Ctrl-C comes from here, once
        return subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=handed_on)
    with notes.open("wb") as file:
        return subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            pass_fds=handed_on,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _passing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ctrl-C, a request to end and the end of the terminal go to all processes; what is ignored stays ignored."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        _signal(children, number)

    try:
        with handling(pass_on, signal.SIGINT, *ENDING):
            yield
    finally:
        _signal(children, signal.SIGKILL)
        for child in children:
            child.wait()


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> tuple[int | None, bool]:
    """Wait for all.

    Returns:
        The first process that failed by itself, None if none did; and whether it is one that the others no longer
        waited for, and that had to be ended.
    """
    failed, is_hanging = None, False
    deadlines = iter((PATIENCE, PATIENCE))
    until: float | None = None
    while left := [rank for rank, child in enumerate(children) if child.poll() is None]:
        if failed is None:
            failed = _cause(children)
        if until is None:
            if any(child.returncode for child in children):
                until = time.monotonic() + next(deadlines)
        elif time.monotonic() > until:
            if failed is None:
                failed, is_hanging = left[0], True
            patience = next(deadlines, None)
            _signal(children, signal.SIGKILL if patience is None else signal.SIGTERM)
            until = time.monotonic() + (patience or PATIENCE)
        time.sleep(0.05)
    return _cause(children) if failed is None else failed, is_hanging


def _cause(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The first process that failed, and not because another one did."""
    failed = [rank for rank, child in enumerate(children) if child.poll()]
    causes = [rank for rank in failed if children[rank].returncode != OTHER_FAILED]
    return next(iter(causes), None)


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _exit_code(child: subprocess.Popen[bytes]) -> int:
    assert child.returncode is not None
    return child.returncode if child.returncode >= 0 else 128 - child.returncode
