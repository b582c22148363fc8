"""Read a file that anybody may have put there: a regular one, of bounded size, and JSON of any shape."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from lorate.errors import LorateError

LARGEST = 64 * 2**20
"""Bytes of a file that is read whole, and of a line of one that is read line by line."""


def real(path: str | os.PathLike[str]) -> Path:
    """The path without links, as `Path.resolve`, which raises a RuntimeError at a link to itself."""
    return Path(os.path.realpath(path))


def check_regular(path: Path, most: int | None = None) -> None:
    """Refuse what would never end, such as a pipe or ``/dev/zero``, and what is too large to be read whole.

    Args:
        path: the file.
        most: bytes that it may hold; any number if not given.

    Raises:
        LorateError: it is not a regular file, or too large.
        OSError: it is missing or cannot be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = "directory" if stat.S_ISDIR(found.st_mode) else "pipe" if stat.S_ISFIFO(found.st_mode) else "device"
        raise LorateError(f"{path} is a {kind}, and a file is expected there; put a file in its place.")
    if most is not None and found.st_size > most:
        raise LorateError(f"{path} holds {found.st_size:,} bytes, and at most {most:,} are expected there.")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file of at most `LARGEST` bytes.

    Raises:
        LorateError: see `check_regular`.
        OSError: it is missing or cannot be read.
        ValueError: it is not UTF-8.
    """
    check_regular(path, LARGEST)
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file says; NaN and Infinity, which are not JSON, become None.

    Raises:
        LorateError: it is not a regular file, too large, or no JSON.
        OSError: it is missing or cannot be read.
    """
    try:
        return json.loads(read_text(path), parse_constant=lambda _: None)
    except LorateError:
        raise
    except (ValueError, RecursionError) as error:
        raise LorateError(f"{path} cannot be read as JSON: {error}.") from None
