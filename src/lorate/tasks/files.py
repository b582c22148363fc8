"""Files of data: their bytes, and not what a link in a folder leads to."""

from pathlib import Path

from lorate.errors import LorateError
from lorate.runs.reading import check_regular, real


def check_inside(entry: Path, folder: Path) -> None:
    """A folder from somewhere else may hold links, and its author should not choose which files of ours are read.

    Raises:
        LorateError: the entry is a link, or lies behind one, that leads out of the folder.
    """
    if not real(entry).is_relative_to(real(folder)):
        raise LorateError(
            f"{entry} is a link that leads out of {folder}: put a copy of the file or folder in its place."
        )


def read_bytes(file: Path) -> bytes:
    """The content of a file.

    Raises:
        LorateError: it cannot be read, or is no regular file.
    """
    try:
        check_regular(file)
        return file.read_bytes()
    except OSError as error:
        raise LorateError(f"{file} cannot be read: {error.strerror or error}.") from error
