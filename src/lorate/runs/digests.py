"""SHA-256 of files: whole ones, those that grow while a run goes on, and small ones that hold their own digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.runs.reading import check_regular, read_json

_BLOCK = 2**20


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with its own digest in it."""
    return {**content, "sha256": _of_json(content)}


def is_as_signed(content: Mapping[str, Any]) -> bool:
    """Whether what was read back is what was `signed`; earlier versions wrote no digest."""
    return content.get("sha256") in (None, _of_json({key: content[key] for key in content if key != "sha256"}))


def _of_json(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Growing:
    """A file that is only appended to: each look at it reads what has come since the last one.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0

    def entry(self) -> dict[str, Any]:
        """Size and SHA-256 of the file now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._size)
                while block := file.read(_BLOCK):
                    self._digest.update(block)
                    self._size += len(block)
        return {"size": self._size, "sha256": self._digest.hexdigest()}


RECORDS = ("metrics.jsonl", "layers.jsonl", "eval.jsonl")
MANIFEST = "manifest.json"


def changed_records(checkpoint: Path) -> list[str]:
    """Sentences about the run's files of records that no longer begin as they did when a checkpoint was written.

    Args:
        checkpoint: its directory; manifests of earlier versions do not say how the records began.
    """
    run = checkpoint.parent.parent
    try:
        records = read_json(checkpoint / MANIFEST)["records"]
        changed = [name for name in RECORDS if name in records and _has_changed(run / name, **records[name])]
    except (OSError, LorateError, LookupError, TypeError):
        return []
    lost = f"has changed since {checkpoint.name} was written"
    return [f"{name} {lost if (run / name).exists() else 'is missing'}." for name in changed]


def _has_changed(path: Path, size: int, sha256: str) -> bool:
    found = hashlib.sha256()
    try:
        check_regular(path)
        with path.open("rb") as file:
            while size > 0 and (block := file.read(min(_BLOCK, size))):
                found.update(block)
                size -= len(block)
    except (OSError, LorateError):
        return size > 0
    return size > 0 or found.hexdigest() != sha256
