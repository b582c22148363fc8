"""The run directory of a sweep: made or gone on with, never overwritten; one file per finished run."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lorate
from lorate.errors import LorateError
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.reading import real
from lorate.runs.storage import naming_storage_errors
from lorate.runs.strict_json import encode
from lorate.sweep.run import Run

NAME = re.compile(r"[A-Za-z0-9_=.,+-]+")
"""What a run may be called: its name is the name of a file."""

AFTERWARDS = "the same command continues"
"""What to do after a fault of the disk."""


class SweepFolder(RunDirectory):
    """The files of one sweep, by name."""

    @classmethod
    def make_or_resume(cls, path: Path, config: Mapping[str, Any]) -> "SweepFolder":
        """An empty directory, or the one of the same sweep, options and version of lorate.

        One that holds nothing but the note of a failure counts as empty.

        Args:
            path: where.
            config: what was asked for, as it is written to ``run.json``.

        Raises:
            LorateError: the directory holds something else.
            StorageError: it cannot be made or read.
        """
        folder = cls(path)
        with naming_storage_errors(path, AFTERWARDS):
            if not path.is_dir() or folder._is_empty():
                # a link to a directory is followed: people keep their runs on another disk
                cls.create(real(path) if path.is_dir() else path)
                return folder
        try:
            info = folder.read_run()
        except LorateError as error:
            raise folder._refusal(str(error)) from None
        if info.get("status") == "failed" and {entry.name for entry in path.iterdir()} <= {"run.json", ".lock"}:
            return folder
        if info.get("config") != dict(config):
            raise LorateError(
                f"{path} holds another run ({_words(info.get('config'))}) and is not overwritten; "
                "choose another --output."
            )
        if info["lorate"] != lorate.__version__:
            raise LorateError(
                f"{path} was started with lorate {info['lorate']} and this is {lorate.__version__}; "
                "choose another --output, so that one table does not mix two versions."
            )
        return folder

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the directory for this process, and say what to do if its disk is full, read-only or broken."""
        with naming_storage_errors(self.path, AFTERWARDS), super().in_use():
            yield

    def finished(self, run: Run) -> dict[str, Any] | None:
        """The record of a run that was finished with the same arguments; None if there is none, or a damaged one."""
        path = self._file(run)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        same = isinstance(record, dict) and record.get("arguments") == json.loads(encode(run.arguments))
        return record if same and _is_whole(record, run.name) else None

    def save(self, run: Run, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Keep the result of a finished run, and return it as it will be read again."""
        path = self._file(run)
        path.parent.mkdir(exist_ok=True)
        text = encode({"run": run.name, "arguments": run.arguments, "seconds": seconds, "result": result})
        write_atomically(path, text + "\n")
        record: dict[str, Any] = json.loads(text)
        return record

    def _refusal(self, reason: str) -> LorateError:
        """What to say of a directory whose ``run.json`` cannot be read: the finished runs in it may be days of work."""
        kept = any(self.path.glob("finished/*.json"))
        if not kept and not os.path.lexists(self.path / "run.json"):
            return LorateError(f"{self.path} is not empty and holds no experiment; choose another --output.")
        runs = "its finished runs are still there, in finished/: " if kept else ""
        return LorateError(
            f"{self.path} cannot be continued ({reason.rstrip('.')}); {runs}put a good run.json there, or choose "
            "another --output."
        )

    def _file(self, run: Run) -> Path:
        if not NAME.fullmatch(run.name):
            raise LorateError(f"{run.name!r} cannot name a run: use letters, digits and -_=.,+ only.")
        return self.inside(f"finished/{run.name}.json")


def _is_whole(record: Mapping[str, Any], name: str) -> bool:
    seconds = record.get("seconds")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return record.get("run") == name and timed and isinstance(record.get("result"), dict)


def _words(config: Any) -> str:
    if not isinstance(config, Mapping):
        return "of lorate"
    if "experiment" not in config:
        return "no experiment"
    return ", ".join(f"{name} {value}" for name, value in config.items())
