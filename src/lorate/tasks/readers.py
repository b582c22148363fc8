"""Read records from local text files, strictly, with line numbers in every error."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from lorate.errors import LorateError
from lorate.tasks.files import check_inside, read_bytes
from lorate.tasks.kinds import TaskKind
from lorate.tasks.records import RecordSet, check_record, expected_keys, record_kind

TEXT_SUFFIXES = (".txt", ".text")
Located = tuple[object, str]  # a parsed value, and the file and line where it starts
_SPACE = re.compile(r"[ \t\r\n]*")


def read_records(path: Path, task: TaskKind) -> RecordSet:
    """Read a ``.jsonl``, ``.json``, ``.csv``, ``.txt`` or ``.text`` file, or a folder of text files.

    JSONL holds an object a line, JSON a list of objects, CSV a header and comma-separated rows. A text
    file holds a record a line, as the ``text`` loader of datasets reads it; in a folder of text files every
    file is one record. Blank lines are skipped. Files are UTF-8.

    Raises:
        LorateError: anything else than that, with file and line.
    """
    if path.is_dir():
        return _checked(str(path), _folder(path, task), task)
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        _refuse_plain_text(task, str(path))
    readers: dict[str, Callable[[str, str], Iterator[Located]]] = {
        ".jsonl": _json_lines,
        ".json": _json_list,
        ".csv": partial(_csv, task=task),
    }
    read = _lines if suffix in TEXT_SUFFIXES else readers.get(suffix)
    if read is None:
        raise LorateError(f"{path}: unknown kind of data file; expected .jsonl, .json, .csv, .txt or .text.")
    return _checked(str(path), read(decode(path), str(path)), task)


def decode(path: Path) -> str:
    """The text of a UTF-8 file; a byte order mark is dropped.

    Raises:
        LorateError: it cannot be read, or is not UTF-8 (with the line).
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LorateError(f"{path}, line {line}: not UTF-8 text; save the file in UTF-8.") from error


def _checked(name: str, values: Iterable[Located], task: TaskKind) -> RecordSet:
    """Check every record against the kind of the first one."""
    kind, records = None, []
    for value, where in values:
        if isinstance(value, dict):
            this = record_kind(list(value), task, where)
            kind = kind or this
            if this != kind:
                raise LorateError(f"{where}: a {this} record among {kind} records; keep to one kind in a file.")
        records.append(check_record(value, kind or "text", where))
    return RecordSet(name, kind or "text", records)


def _json_lines(text: str, file: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028
        if line.strip():
            value, end = _parse(line, _space(line, 0), file, number)
            if _space(line, end) != len(line):
                raise LorateError(f"{file}, line {number}: more than one JSON value on a line.")
            yield value, f"{file}, line {number}"


def _json_list(text: str, file: str) -> Iterator[Located]:
    position = _space(text, 0)
    line = 1 + text.count("\n", 0, position)
    if position == len(text):
        return
    if text[position] != "[":
        raise LorateError(f"{file}, line {line}: expected a list [...] of objects; one a line belongs in .jsonl.")
    opened = position
    position = _space(text, opened + 1)
    line += text.count("\n", opened, position)
    while not text.startswith("]", position):
        value, end = _parse(text, position, file, line)
        yield value, f"{file}, line {line}"
        after = _space(text, end)
        if text.startswith(",", after):
            after = _space(text, after + 1)
        elif not text.startswith("]", after):
            line += text.count("\n", position, after)
            raise LorateError(f"{file}, line {line}: expected a comma or the end of the list.")
        line += text.count("\n", position, after)
        position = after
    if _space(text, position + 1) != len(text):
        raise LorateError(f"{file}, line {line}: more text after the end of the list.")


def _parse(text: str, start: int, file: str, line: int) -> tuple[object, int]:
    """One JSON value that starts at ``start``, on ``line`` of the file, and where it ends."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        line += text.count("\n", start, error.pos)
        raise LorateError(f"{file}, line {line}: not valid JSON ({error.msg}).") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        raise LorateError(f"{file}, line {line}: not usable JSON (nested too deeply or a huge number).") from error
    return value, end


def _space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _csv(text: str, file: str, task: TaskKind) -> Iterator[Located]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise LorateError(f"{file}, line {line}: not valid CSV ({error}).") from error
        if not row:
            continue
        where = f"{file}, line {line}"
        if header is None:
            header = row
            if len(set(header)) < len(header):
                raise LorateError(f"{where}: two columns of one name in the header.")
            record_kind(header, task, where)
            continue
        if len(row) != len(header):
            raise LorateError(f"{where}: {len(row)} values, but the header has {len(header)} columns.")
        yield dict(zip(header, row, strict=True)), where


def _lines(text: str, file: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield {"text": line.rstrip("\r")}, f"{file}, line {number}"


def _folder(path: Path, task: TaskKind) -> Iterator[Located]:
    _refuse_plain_text(task, str(path))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file())
    if not files:
        raise LorateError(f"{path} holds no text files: expected .txt or .text files in it.")
    for file in files:
        check_inside(file, path)
        yield {"text": decode(file)}, f"{file}, line 1"


def _refuse_plain_text(task: TaskKind, name: str) -> None:
    if task != "causal-lm":
        raise LorateError(
            f"{name}: plain text has no labels; {task} reads the columns {expected_keys(task)} from "
            f".jsonl, .json or .csv."
        )
