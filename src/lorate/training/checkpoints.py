"""Checkpoints that can be trusted: each gets a manifest when it is complete, which is checked before a run goes on.

The Trainer writes a checkpoint file by file, so a kill can leave any part of it. The manifest (sizes and SHA-256 of all
files) is written last and in one step: without it a checkpoint was never completed, and whatever happens to a file
later is seen.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate.errors import LorateError
from lorate.runs import write_atomically

MANIFEST = "manifest.json"
STATE = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of the Trainer.

    Attributes:
        path: its directory.
        step: optimizer steps that it holds.
    """

    path: Path
    step: int

    @property
    def is_sealed(self) -> bool:
        """Whether it was complete once."""
        return (self.path / MANIFEST).exists()

    def fault(self) -> str | None:
        """What is wrong with it, in words that follow its name; None if every file is as it was written."""
        try:
            files = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["files"]
            own = self.path.resolve()
            if STATE not in files or not all((own / name).resolve().is_relative_to(own) for name in files):
                return f"{MANIFEST} is damaged"
            faults = (_file_fault(self.path / name, name, **entry) for name, entry in files.items())
            return next((fault for fault in faults if fault is not None), None)
        except FileNotFoundError:
            return "is incomplete: the process ended while it was written"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return f"{MANIFEST} is damaged"


class Sealer(TrainerCallback):
    """Seals each checkpoint that the Trainer has written."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Every process writes its random state before one of them writes the manifest."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            assert args.output_dir is not None
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def seal(folder: Path) -> None:
    """Bring all files of a checkpoint to the disk, then write its manifest."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            name = path.relative_to(folder).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": _digest(path)}
    write_atomically(folder / MANIFEST, json.dumps({"files": files}, indent=2) + "\n")


def checkpoints(folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run, complete or not, the one with the most steps first.

    Raises:
        LorateError: one of them is a link.
    """
    return sorted(_checkpoints(folder), key=lambda checkpoint: checkpoint.step, reverse=True)


def train_from(trainer: Any, checkpoint: Checkpoint | None) -> None:
    """Train, from a checkpoint if there is one; its files are read as tensors and nothing else.

    Raises:
        LorateError: a file holds more than tensors, which might run code.
    """
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    except UnpicklingError as error:
        if checkpoint is None:
            raise
        raise LorateError(
            f"{checkpoint.path} holds a file with more in it than tensors, which may run code: it was not written by "
            "lorate; delete this checkpoint, and --resume goes on from the one before it."
        ) from error


def discard_after(folder: Path, step: int) -> None:
    """Delete the checkpoints behind a step: the run makes them again, and the Trainer counts whatever lies there."""
    for checkpoint in _checkpoints(folder):
        if checkpoint.step > step:
            (checkpoint.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(checkpoint.path)


def _checkpoints(folder: Path) -> Iterator[Checkpoint]:
    for path in folder.glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-([0-9]+)", path.name)
        if number and path.is_dir():
            if path.is_symlink():  # it would be deleted, or written to, elsewhere
                raise LorateError(f"{path} is a link: a run keeps its checkpoints inside; put the directory there.")
            yield Checkpoint(path, int(number[1]))


def _file_fault(path: Path, name: str, size: int, sha256: str) -> str | None:
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != size:
        return f"{name} holds {path.stat().st_size} bytes instead of {size}"
    return None if _digest(path) == sha256 else f"{name} has changed since it was written"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
