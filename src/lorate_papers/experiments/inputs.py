"""The user's own files that an experiment reads: there before the work begins, and the same when it goes on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.runs.digests import digest


def fingerprints(given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Of each input that is a local file or folder what tells it from another one; a name on a hub has none.

    Raises:
        LorateError: one is empty, or neither there nor a name.

    >>> fingerprints({"data": "cifar10"})
    {}
    """
    places = {word: _local(word, spec) for word, spec in given.items()}
    return {word: _fingerprint(place) for word, place in places.items() if place is not None}


def check_unchanged(given: Mapping[str, str], now: Mapping[str, Any], before: Any, place: Path) -> None:
    """Refuse to go on with other content than the finished runs have read.

    Args:
        given: names of the inputs.
        now: their `fingerprints`.
        before: those that were noted at the start; earlier versions noted none.
        place: the directory of the runs.

    Raises:
        LorateError: one has changed.
    """
    known = before if isinstance(before, Mapping) else {}
    for word, spec in given.items():
        if word in known and known[word] != now.get(word):
            raise LorateError(
                f"{spec} has changed since the finished runs in {place} read it; bring back the --{word} of then, or "
                "choose another --output, so that one table does not mix two."
            )


def _local(word: str, spec: str) -> Path | None:
    if not spec.strip():
        raise LorateError(f"--{word} is empty: give a file, a folder or a name, or leave it out.")
    if Path(spec).exists():
        return Path(spec)
    name, _, _ = spec.partition(":")  # a part of the data is named behind a colon
    if Path(name).exists():
        return Path(name)
    from lorate.tasks.files import suffix
    from lorate.tasks.model_source import HUB_ID
    from lorate.tasks.readers import SUFFIXES

    if suffix(Path(name)) in (*SUFFIXES, ".gguf") or not HUB_ID.fullmatch(name):
        raise LorateError(f"No {word} at {spec!r}: no such file or folder, and not a hub id (owner/name).")
    return None


def _fingerprint(place: Path) -> dict[str, Any]:
    if place.is_file():
        return {"size": place.stat().st_size, "sha256": digest(place)}
    # weights are large: of a folder names, sizes and times are enough
    files = sorted(path for path in place.rglob("*") if path.is_file())
    listed = [(path.relative_to(place).as_posix(), path.stat()) for path in files]
    text = "\n".join(f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in listed)
    return {"files": len(files), "sha256": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()}
