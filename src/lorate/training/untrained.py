"""``before.json``: held-out losses and answers of the untrained adapter, which a resumed run cannot measure again."""

import json
from pathlib import Path

from lorate.errors import LorateError
from lorate.runs import write_atomically
from lorate.runs.digests import is_as_signed, signed
from lorate.runs.reading import read_json

Samples = list[dict[str, str]]


def write_untrained(file: Path, losses: list[float], samples: Samples) -> None:
    """Write them with their digest, so that a number that changes later is not taken for the one that was measured."""
    content = signed({"losses": losses, "samples": samples})
    write_atomically(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_untrained(file: Path, examples: int) -> tuple[list[float], Samples]:
    """What is on file.

    Args:
        file: ``before.json``.
        examples: how many held-out examples there are.

    Raises:
        FileNotFoundError: nothing is.
        LorateError: it is not what was written, in words that follow the file's name.
    """
    saved = read_json(file)
    try:
        losses, samples = saved["losses"], saved["samples"]
        sound = len(losses) == examples and all(type(loss) in (int, float) or loss is None for loss in losses)
        sound &= all(isinstance(sample["prompt"] + sample["before"], str) for sample in samples)
        sound &= is_as_signed(saved)
    except (TypeError, LookupError, AttributeError):
        sound = False
    if not sound:
        raise LorateError(f"{file} is not as it was written.")
    return [float("nan") if loss is None else float(loss) for loss in losses], samples
