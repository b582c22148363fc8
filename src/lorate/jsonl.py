"""Files with one JSON object a line: written as it happens, read whatever happened.

`JsonlWriter` appends and flushes, and can cut a file back to the step a run resumes from.
`read_jsonl` reads a file that may still be written to, or whose writer was killed; `iterate_jsonl`
does the same without holding the records (`lorate.report.downsampling` thins them out for drawing).
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lorate.errors import LorateError, StorageError
from lorate.runs.atomic import replacing
from lorate.runs.reading import LARGEST, check_regular
from lorate.runs.strict_json import encode

Record = dict[str, Any]
"""One line of such a file."""

# NaN and Infinity are not JSON, but Python's own writer makes them: read them as "no number".
# One decoder for all lines: json.loads with an option would build one for each.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)

_STEP_IN_FRONT = re.compile(rb'\{"step": (-?[0-9]+)[,}]')
"""How the lines of a run begin, so that the step is known without reading the rest."""


class JsonlWriter:
    """Append records to a file, one JSON object a line, each flushed as it is written.

    The file is opened for appending. If its last line is incomplete (the earlier writer was killed), that
    piece is removed first, so that it cannot run together with the next record.

    Args:
        path: the file; made if it is not there, its directory must exist.

    Raises:
        LorateError: there is something else than a file, such as a directory or a pipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists():
            check_regular(self.path)
        self._mend_end()
        self._file = self.path.open("ab")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; non-finite numbers are written as null.

        Raises:
            StorageError: the file was deleted meanwhile, or another one has its name.
        """
        if not self._is_there():
            raise StorageError(
                f"{self.path} is gone: it was deleted or replaced during the run, so nothing more can be kept."
            )
        self._file.write(encode(record).encode("utf-8") + b"\n")
        self._file.flush()

    @property
    def is_empty(self) -> bool:
        """Whether the file is empty."""
        return os.fstat(self._file.fileno()).st_size == 0

    def truncate_after(self, step: int) -> None:
        """Drop the records whose ``"step"`` is greater than ``step``, in one atomic replacement.

        After it a run that resumes from ``step`` writes each later step once. Records without a step (a
        header line) stay, and so do lines that cannot be read between records that stay: whoever reads the file
        hears of them. A file that has nothing to drop is not touched.
        """
        self._file.close()
        try:
            if all(stays for _, stays in self._lines(step)):
                return
            with replacing(self.path) as kept:
                kept.writelines(line for line, stays in self._lines(step) if stays)
        finally:
            self._file = self.path.open("ab")

    def close(self) -> None:
        """Close the file; writing afterwards is an error."""
        self._file.close()

    def __enter__(self) -> "JsonlWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _lines(self, step: int) -> Iterator[tuple[bytes, bool]]:
        """Each line as it is, and whether it stays when what comes after ``step`` is dropped."""
        last: float = 0
        with self.path.open("rb") as file:
            stays = True
            for piece, begins in _pieces(file):
                if begins:
                    try:
                        own = _step_of(piece)
                        last = last if own is None else own
                        stays = own is None or own <= step
                    except ValueError:
                        stays = last < step
                yield piece, stays

    def _mend_end(self) -> None:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("r+b") as file:
            tail_start = _last_line_start(file)
            file.seek(tail_start)
            tail = file.read(LARGEST)
            if tail and isinstance(_parse(tail), str):
                file.truncate(tail_start)
            elif tail:
                file.write(b"\n")


def _last_line_start(file: Any, block: int = 65536) -> int:
    """Offset of the first byte after the last line break."""
    end: int = file.seek(0, 2)
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        line_break = file.read(end - start).rfind(b"\n")
        if line_break >= 0:
            return int(start + line_break + 1)
        end = start
    return 0


def _pieces(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, those of `LARGEST` bytes and more in pieces, and whether a line begins here."""
    begins = True
    while piece := file.readline(LARGEST):
        yield piece, begins
        begins = piece.endswith(b"\n")


def _parse(line: bytes) -> Record | str:
    """The record in a line, or what is wrong with it."""
    if len(line) >= LARGEST:
        return f"has {LARGEST:,} bytes or more"
    try:
        text = line.decode("utf-8").strip()
        record, end = _DECODER.raw_decode(text)  # decode() looks for white space twice more, a million times
    except (ValueError, RecursionError):
        return "is not JSON"
    if end != len(text):
        return "is not JSON"
    return record if isinstance(record, dict) else "is not a JSON object"


def _step_of(line: bytes) -> float | None:
    """The step of the record in a line, None without one; ValueError if there is no record."""
    in_front = _STEP_IN_FRONT.match(line)
    if in_front:
        return int(in_front[1])
    record = _parse(line)
    if isinstance(record, str):
        raise ValueError(record)
    step = record.get("step")
    return step if isinstance(step, (int, float)) else None


def iterate_jsonl(path: Path, problems: list[str] | None = None) -> Iterator[Record]:
    """Read the records of a file one by one.

    Nothing in the file raises: a line that holds no record is passed over, and a sentence about it with its
    number is appended to ``problems``. A last line without its end is called incomplete: its writer is still
    at work, or was killed. At most 20 lines are described one by one, the rest are counted.

    Args:
        path: the file; one that does not exist has no records.
        problems: the list that the sentences are appended to.

    Yields:
        The records, in the order of the file.
    """
    problems = [] if problems is None else problems
    try:
        check_regular(path)
    except FileNotFoundError:
        return
    except LorateError as error:
        problems.append(f"{str(error).split(',')[0]} and was left out.")
        return
    bad = number = 0
    with path.open("rb") as file:
        for line, begins in _pieces(file):
            number += begins
            if not begins or line.isspace():
                continue
            record = _parse(line)
            if isinstance(record, dict):
                yield record
            elif not line.endswith(b"\n") and len(line) < LARGEST:
                problems.append(f"{path.name}, line {number}: the last line is incomplete and was left out.")
            else:
                bad += 1
                if bad <= 20:
                    problems.append(f"{path.name}, line {number}: the line {record} and was left out.")
            if not line.endswith(b"\n") and len(line) < LARGEST:
                break  # its end, if the writer has written it by now, would be taken for a line of its own
    if bad > 20:
        problems.append(f"{path.name}: {bad - 20} more lines cannot be read and were left out.")


@dataclass(frozen=True)
class JsonlContent:
    """The records of a file, and a sentence about each line that holds none."""

    records: list[Record]
    problems: list[str]


def read_jsonl(path: Path) -> JsonlContent:
    """Read a whole file; see `iterate_jsonl` for what happens with damaged lines."""
    problems: list[str] = []
    return JsonlContent(list(iterate_jsonl(path, problems)), problems)
