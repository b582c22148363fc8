"""Finished runs as one committed file, so that hours of computing go on where somebody else stopped."""

import json
from collections.abc import Iterable
from pathlib import Path

from lorate.runs import write_atomically
from lorate.runs.strict_json import encode
from lorate.sweep import Run
from lorate.sweep.folder import SweepFolder


def unpack(archive: Path, runs: Iterable[Run], folder: SweepFolder) -> int:
    """Put the archive's runs where the runner looks for finished ones, if they are not there.

    Args:
        archive: one record a line; it need not exist.
        runs: what is wanted; a record with other arguments than its run is left in the archive.
        folder: gets the records.

    Returns:
        How many were added.
    """
    if not archive.is_file():
        return 0
    records = {record["run"]: record for record in map(json.loads, archive.read_text(encoding="utf-8").splitlines())}
    added = 0
    for run in runs:
        record = records.get(run.name)
        if record is None or folder.finished(run) is not None:
            continue
        if record["arguments"] == json.loads(encode(run.arguments)):
            folder.save(run, record["result"], record["seconds"])
            added += 1
    return added


def pack(archive: Path, runs: Iterable[Run], folder: SweepFolder) -> int:
    """Write the finished ones of these runs into the archive, in their order, in place of what it held.

    Returns:
        How many there are.
    """
    records = [record for run in runs if (record := folder.finished(run)) is not None]
    write_atomically(archive, "".join(encode(record) + "\n" for record in records))
    return len(records)
