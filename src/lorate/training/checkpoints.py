"""Find the checkpoint that a run can go on from."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint of the Trainer.

    Attributes:
        path: its directory.
        step: optimizer steps that it holds.
    """

    path: Path
    step: int


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The complete checkpoint with the most steps; None if there is none.

    A checkpoint is complete when its ``trainer_state.json``, which the Trainer writes last, can be read and the
    adapter and optimizer are there; one cut short by a kill is passed over.
    """
    complete = [found for path in folder.glob("checkpoint-*") if (found := _read(path)) is not None]
    return max(complete, key=lambda checkpoint: checkpoint.step, default=None)


def _read(path: Path) -> Checkpoint | None:
    try:
        step = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    parts = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
    whole = isinstance(step, int) and all((path / part).is_file() for part in parts)
    return Checkpoint(path, step) if whole else None
