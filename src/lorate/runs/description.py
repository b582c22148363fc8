"""What ``run.json`` may hold: the number of its format, and entries of the types that lorate writes."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorate.errors import LorateError

FORMAT = 1
"""Grows when runs are written that earlier versions would read wrongly."""

_NUMBER = (int, float)
_TYPES: Mapping[str, Any] = {
    **dict.fromkeys(("command", "status", "started", "device"), str),
    **dict.fromkeys(("config", "model", "data", "rule", "versions", "plan"), dict),
    "seconds": _NUMBER,
    "processes": int,
    "resumed": list,
}
_MAY_BE_NULL: Mapping[str, Any] = {"finished": str, "error": str, "result": dict}
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "data": {"name": str, "fingerprint": str},
    "rule": {"name": str, "lr": _NUMBER},
    "model": {"name": str},
}


def check_format(info: Mapping[str, Any], file: Path) -> None:
    """Refuse a run of a version whose format is not known here.

    Raises:
        LorateError: the format is newer, or its number is none.
    """
    written, by = info.get("format", 1), str(info["lorate"])[:40]
    # the first versions wrote no number
    is_later = "format" not in info and by.split(".")[0].isdecimal() and by.split(".")[0] != "0"
    if isinstance(written, bool) or not isinstance(written, int) or is_later:
        raise LorateError(f"{file} does not say which format it has (lorate: {by!r}); this version reads {FORMAT}.")
    if not 1 <= written <= FORMAT:
        raise LorateError(
            f"{file} has format {written} of lorate {by}, and this version reads formats up to {FORMAT}: install that "
            "version, or a later one."
        )


def sound_entries(info: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The entries whose types are those that lorate writes.

    Args:
        info: the content of ``run.json``.
        problems: gets a sentence about the others.
    """
    damaged = [name for name, value in info.items() if not _fits(name, value)]
    sound = {name: value for name, value in info.items() if name not in damaged}
    for name, types in _PARTS.items():
        if isinstance(part := sound.get(name), dict):
            wrong = [key for key, expected in types.items() if key in part and not _is(part[key], expected)]
            sound[name] = {key: value for key, value in part.items() if key not in wrong}
            damaged += [f"{name}.{key}" for key in wrong]
    if damaged:
        problems.append(f"run.json: not what lorate writes, and left out: {', '.join(damaged)}.")
    return sound


def _fits(name: str, value: Any) -> bool:
    if name in _MAY_BE_NULL:
        return value is None or isinstance(value, _MAY_BE_NULL[name])
    return name not in _TYPES or _is(value, _TYPES[name])


def _is(value: Any, expected: Any) -> bool:
    if expected is _NUMBER and isinstance(value, int) and abs(value) > sys.float_info.max:
        return False  # JSON knows integers that no float holds
    return isinstance(value, expected) and not isinstance(value, bool)
