"""Write a file whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file beside ``path`` that takes its place once everything was written.

    The new file is flushed to the disk before it is renamed, so that after a crash ``path`` holds either
    the old content or the new one. If the block raises, ``path`` stays as it was and the new file is removed.

    Args:
        path: the file to write; its directory must exist.

    Yields:
        A binary file to write to.
    """
    # Not tempfile.mkstemp: that file would be private to the user, whatever the umask allows.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with fresh.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Give ``path`` this content, replacing what was there in one step.

    Text is written as UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes ``?``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "note.txt"
    ...     write_atomically(file, "η = 0.1")
    ...     file.read_text(encoding="utf-8")
    'η = 0.1'
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
