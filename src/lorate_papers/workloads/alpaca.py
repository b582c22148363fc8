"""The format of the Alpaca data: a JSON list of instruction, input and output."""

import json
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.tasks.files import decode

ALPACA = "alpaca"
ALPACA_ON_HUB = "tatsu-lab/alpaca"


def alpaca_records(path: Path) -> list[dict[str, Any]] | None:
    """Prompts and completions of a file in Alpaca's format.

    Args:
        path: of a file, or of anything else.

    Returns:
        ``prompt`` and ``completion`` of every entry; None unless this is a JSON file whose first entry has an
            instruction.

    Raises:
        LorateError: an entry lacks one of the keys, or holds something else than text.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    try:
        entries = json.loads(decode(path))
    except ValueError:
        return None  # the reader of other data says what is wrong
    if not (isinstance(entries, list) and entries and isinstance(entries[0], dict) and "instruction" in entries[0]):
        return None
    return [_record(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, start=1)]


def _record(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise LorateError(f"{where}: expected an object with instruction, input and output.")
    parts = [entry.get("instruction"), entry.get("input", ""), entry.get("output")]
    if not all(isinstance(part, str) for part in parts):
        raise LorateError(f"{where}: expected texts under instruction, input (may be empty) and output.")
    instruction, extra, output = parts
    middle = f"### Input:\n{extra}\n\n" if extra else ""
    return {"prompt": f"### Instruction:\n{instruction}\n\n{middle}### Response:\n", "completion": output}
