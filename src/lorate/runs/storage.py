"""What a disk that is full, read-only or broken says, in one sentence."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorate.errors import LorateError, StorageError

_RUST = re.compile(r"\(os error ([0-9]+)\)")
"""How safetensors passes on what the system said."""


@contextmanager
def naming_storage_errors(run: Path, afterwards: str = "go on with --resume") -> Iterator[None]:
    """Inside, whatever goes wrong with files while a run is written becomes a `StorageError`.

    Args:
        run: the run directory.
        afterwards: what continues it once the disk is mended.
    """
    try:
        yield
    except LorateError:
        raise
    except Exception as error:
        reason = storage_fault(error)
        if reason is None:
            raise
        own = isinstance(error, OSError) and error.filename and Path(str(error.filename)).is_relative_to(run)
        if own and isinstance(error, FileNotFoundError) and not run.exists():
            raise StorageError(f"{run} is gone: it was deleted or replaced during the run.") from error
        remedy = (
            f"what was written before is kept: fix this, then {afterwards}"
            if (run / "run.json").exists()
            else "no run was started: fix this, or choose another place with --output"
        )
        # of a file that is renamed the new name is the one that says something
        place = (error.filename2 or error.filename or run) if isinstance(error, OSError) else run
        raise StorageError(f"{place}: {reason}; {remedy}.") from error


def storage_fault(error: BaseException) -> str | None:
    """What the disk said, if an error is about files; None for any other error.

    >>> import errno
    >>> storage_fault(OSError(errno.ENOSPC, "ENOSPC")), storage_fault(ValueError("no"))
    ('no space left on device', None)
    """
    if isinstance(error, OSError):
        return _lower(os.strerror(error.errno) if error.errno else str(error))
    if found := _RUST.search(str(error)):
        return _lower(os.strerror(int(found[1])))
    if isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch.save
        said = re.search(r"strerror: (.+)", str(error))
        return _lower(said[1]) if said else "a file could not be written in full; the disk may be full"
    return None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
