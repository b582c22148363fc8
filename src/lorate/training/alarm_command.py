"""A command of the user's own that runs whenever an alarm is raised: a message to a phone, a chat, a log."""

import json
import os
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lorate.monitor import Alarm

if TYPE_CHECKING:
    from lorate.training.listener import Listener

PATIENCE = 30.0
"""Seconds that a command may take; training waits for it."""


class Alarms:
    """Passes alarms on to a listener and to the user's command.

    The command gets the alarm as JSON on its standard input (``run``, ``step``, ``kind``, ``message``, ``remedy``), and
    message and remedy as one text in the environment variable ``LORATE_ALARM``. One that fails is a notice, and the run
    goes on.

    Args:
        command: split into words as a shell does, and run without one; None runs nothing.
        run: directory of the run.
        listener: gets alarms and notices.
    """

    def __init__(self, command: str | None, run: Path, listener: "Listener") -> None:
        self._command, self._run, self._listener = command, run, listener

    def __call__(self, step: int, alarm: Alarm) -> None:
        """An alarm was raised at this step."""
        self._listener.alarm(alarm)
        if self._command is not None and (trouble := self._call(self._command, step, alarm)):
            self._listener.notice(f"--on-alarm-run {self._command!r} {trouble}; the alarm may have gone unseen.")

    def _call(self, command: str, step: int, alarm: Alarm) -> str:
        """Run it; what went wrong, in words, or nothing."""
        report = {"run": str(self._run), "step": step, **asdict(alarm)}
        text = f"{alarm.message} {alarm.remedy}".replace("\0", "")
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:  # a pipe may never end
            told.write(json.dumps(report).encode() + b"\n")
            told.seek(0)
            try:
                process = subprocess.Popen(
                    shlex.split(command), stdin=told, stdout=said, stderr=said, start_new_session=True,
                    env={**os.environ, "LORATE_ALARM": text},
                )  # fmt: skip
            except OSError as error:
                return f"did not start ({error.strerror or error})"
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                return f"was ended after {PATIENCE:g} s"
            finally:  # with all that it started
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"exited with {code}: {''.join(words)[:200] or 'it said nothing'}" if code else ""
