"""The directory of the records."""

from pathlib import Path

from lorate.errors import LorateError
from lorate.runs import RunDirectory


def records_place(directory: Path, *, goes_on: bool) -> RunDirectory:
    """Make the directory; nothing in it is overwritten.

    Args:
        directory: for the records.
        goes_on: whether a run whose records are there goes on.

    Raises:
        LorateError: it is a file, or it holds records and no run goes on.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise LorateError(f"{directory} cannot hold records: it, or a folder above it, is a file") from None
    run = RunDirectory(directory)
    for file in () if goes_on else (run.metrics, run.layers, run.inside("setting.json")):
        if file.exists() and (not file.is_file() or file.stat().st_size):
            raise LorateError(
                f"{directory} holds the records of a run; give another directory, or go on with that run (Monitor: "
                "resume_at=step; Trainer: resume_from_checkpoint, with the state of the optimizer)"
            )
    return run
