"""Checkpoints that can be trusted: each gets a manifest when it is complete, which is checked before a run goes on.

The Trainer writes a checkpoint file by file, so a kill can leave any part of it. The manifest (sizes and SHA-256 of all
files, and of the run's records until then) is written last and in one step: without it a checkpoint was never
completed, and whatever happens to a file later is seen. Old checkpoints are deleted after that, by their number of
steps: the clocks of two machines need not agree.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate.errors import LorateError, StorageError
from lorate.runs import write_atomically
from lorate.runs.belongings import delete_checkpoint
from lorate.runs.digests import MANIFEST, RECORDS, Growing, digest, is_as_signed, signed
from lorate.runs.reading import read_json, real

FORMAT = 1
"""Of the manifest; grows when checkpoints are written that earlier versions would read wrongly."""

STATE = "trainer_state.json"
NEEDED = {STATE, "optimizer.pt", "scheduler.pt", "adapter_model.safetensors"}
LOGGED = 100
"""Entries of the Trainer's own log that stay in a checkpoint: it would grow with each step, as the records do."""

KEPT = 2
"""Complete checkpoints that stay: the last one, and one before it in case that one is damaged."""


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
            manifest = read_json(self.path / MANIFEST)
            if manifest.get("format", 1) != FORMAT:
                return f"{MANIFEST} has format {str(manifest['format'])[:20]}, which this version of lorate cannot read"
            files = manifest["files"]
            own = real(self.path)
            if not is_as_signed(manifest) or not all(real(own / name).is_relative_to(own) for name in files):
                return f"{MANIFEST} is damaged"
            if missing := sorted(NEEDED - set(files)) or (
                [] if any("rng_state" in f for f in files) else ["rng_state"]
            ):
                return f"{MANIFEST} is damaged: it does not list {missing[0]}"
            for name, entry in files.items():
                if (fault := _file_fault(self.path / name, name, **entry)) is not None:
                    return fault
            held = read_json(self.path / STATE)["global_step"]
            return None if held == self.step else f"it holds the state after step {held}"
        except FileNotFoundError:
            return "is incomplete: the process ended while it was written"
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return f"{MANIFEST} is damaged"


class Sealer(TrainerCallback):
    """Seals each checkpoint that the Trainer has written, and deletes those that are no longer needed."""

    def __init__(self) -> None:
        self._records: dict[str, Growing] = {}

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Forget old entries of the log, which every checkpoint would hold again."""
        del state.log_history[:-LOGGED]

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Every process writes its random state before one of them writes the manifest."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            assert args.output_dir is not None
            folder = Path(args.output_dir)
            self._records = self._records or {name: Growing(folder.parent / name) for name in RECORDS}
            seal(folder / f"checkpoint-{state.global_step}", {name: r.entry() for name, r in self._records.items()})
            discard_before(folder, state.global_step)


def seal(folder: Path, records: dict[str, Any] | None = None) -> None:
    """Bring all files of a checkpoint to the disk, then write its manifest.

    Args:
        folder: the checkpoint.
        records: size and digest of the run's records, by name.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            name = path.relative_to(folder).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": digest(path)}
    manifest = signed({"format": FORMAT, "files": files, "records": records or {}})
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def checkpoints(folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run, complete or not, the one with the most steps first.

    Raises:
        LorateError: one of them is a link.
    """
    return sorted(_checkpoints(folder), key=lambda checkpoint: checkpoint.step, reverse=True)


def train_from(trainer: Any, checkpoint: Checkpoint | None) -> None:
    """Train, from a checkpoint if there is one; its files are read as tensors and nothing else.

    Raises:
        LorateError: a file of the checkpoint holds more than tensors, which might run code, or a state that this
            version of lorate or of the libraries below does not know.
    """
    if checkpoint is None:
        trainer.train()
        return
    begun = _Begun()
    trainer.add_callback(begun)
    remedy = "delete this checkpoint, and --resume goes on from the one before it"
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path))
    except UnpicklingError as error:
        raise LorateError(
            f"{checkpoint.path} holds a file with more in it than tensors, which may run code: it was not written by "
            f"lorate; {remedy}."
        ) from error
    except Exception as error:
        if begun.step or isinstance(error, (StorageError, OSError)):
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}"
        raise LorateError(
            f"{checkpoint.path} cannot be loaded ({said}): another version of lorate, torch or transformers may have "
            f"written it; go on with that version, or {remedy}."
        ) from error


class _Begun(TrainerCallback):
    """Whether the first step has begun: until then the Trainer loads the checkpoint."""

    step = False

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step = True


def discard_after(folder: Path, step: int) -> None:
    """Delete the checkpoints behind a step: the run makes them again."""
    for checkpoint in _checkpoints(folder):
        if checkpoint.step > step:
            _delete(checkpoint)


def discard_before(folder: Path, step: int) -> None:
    """Delete the checkpoints before a step but the last complete one, so that `KEPT` stay with that of the step."""
    earlier = [checkpoint for checkpoint in checkpoints(folder) if checkpoint.step < step]
    kept = [checkpoint for checkpoint in earlier if checkpoint.is_sealed][: KEPT - 1]
    for checkpoint in earlier:
        if checkpoint not in kept:
            _delete(checkpoint)


def _delete(checkpoint: Checkpoint) -> None:
    """The manifest goes first: half of a checkpoint must not look complete."""
    try:
        listed = set(read_json(checkpoint.path / MANIFEST)["files"])
    except (OSError, LorateError, LookupError, TypeError):
        listed = set()
    manifest = checkpoint.path / MANIFEST
    if not manifest.is_dir():
        manifest.unlink(missing_ok=True)
    delete_checkpoint(checkpoint.path, listed)


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
    return None if digest(path) == sha256 else f"{name} has changed since it was written"
