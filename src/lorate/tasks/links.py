"""Folders of data: what lies in them, and not what a link in them leads to."""

from pathlib import Path

from lorate.errors import LorateError


def check_inside(entry: Path, folder: Path) -> None:
    """A folder from somewhere else may hold links, and its author should not choose which files of ours are read.

    Raises:
        LorateError: the entry is a link, or lies behind one, that leads out of the folder.
    """
    if not entry.resolve().is_relative_to(folder.resolve()):
        raise LorateError(
            f"{entry} is a link that leads out of {folder}: put a copy of the file or folder in its place."
        )
