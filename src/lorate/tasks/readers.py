"""Read records from local files and folders, strictly, with line numbers in every error."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lorate.errors import LorateError
from lorate.tasks.files import check_inside, decode, suffix
from lorate.tasks.formats import Columns, expected_keys
from lorate.tasks.hub import is_saved, read_parquet, read_rows, read_saved, rows_of
from lorate.tasks.json_text import json_lines, json_values
from lorate.tasks.kinds import TaskKind
from lorate.tasks.progress import counted
from lorate.tasks.records import Located, RecordSet, collect
from lorate.tasks.tables import table_rows

TEXT_SUFFIXES = (".txt", ".text")
_READERS: dict[str, Callable[[str, str], Iterator[Located]]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_values,
    ".csv": table_rows,
    ".tsv": partial(table_rows, delimiters="\t"),
}
SUFFIXES = (*_READERS, ".parquet", *TEXT_SUFFIXES)
"""The kinds of file that hold records; each may also end in .gz or .zst."""
_HELD_OUT = {"test", "valid", "validation", "val", "dev", "eval"}


def read_records(path: Path, task: TaskKind, columns: Columns, split: str | None = None) -> RecordSet:
    """Read a file of one of `SUFFIXES`, a folder of them, or one that ``save_to_disk`` wrote.

    A text file holds a record a line, as the ``text`` loader of datasets reads it; in a folder of text files every
    file is one record. Of a folder with files for training and for testing, by their names, those for training are
    read. Blank lines are skipped.

    Raises:
        LorateError: anything else than that, with file and line.
    """
    if path.is_dir() and is_saved(path):
        return read_rows(read_saved(path, split), str(path), task, columns, path)
    if split is not None:
        raise LorateError(f"{path} has no split {split!r}: only a data set of the hub or of save_to_disk has splits.")
    if path.is_dir():
        return _folder(path, task, columns)
    if suffix(path) == ".parquet":
        return read_rows(read_parquet(path), str(path), task, columns, path.parent)
    return collect(str(path), _values(path, task, columns), task, columns)


def _values(file: Path, task: TaskKind, columns: Columns) -> Iterator[Located]:
    kind = suffix(file)
    if kind in TEXT_SUFFIXES:
        _refuse_plain_text(task, str(file))
        return counted(_lines(text := decode(file), str(file)), text.count("\n") + 1)
    if kind == ".parquet":
        rows = read_parquet(file)
        return rows_of(rows, str(file), columns, rows.features)
    if kind not in _READERS:
        raise LorateError(
            f"{file}: unknown kind of data file; expected {', '.join(SUFFIXES)}, or one of them .gz or .zst."
        )
    text = decode(file)
    return counted(_READERS[kind](text, str(file)), text.count("\n") + 1)


def _lines(text: str, file: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield {"text": line.rstrip("\r")}, f"{file}, line {number}"


def _folder(path: Path, task: TaskKind, columns: Columns) -> RecordSet:
    visible = (
        file for file in sorted(path.rglob("*")) if not any(p.startswith(".") for p in file.relative_to(path).parts)
    )
    files = [file for file in visible if suffix(file) in SUFFIXES and file.is_file()]
    texts = [file for file in files if suffix(file) in TEXT_SUFFIXES]
    tables = [file for file in files if suffix(file) not in TEXT_SUFFIXES]
    if task != "causal-lm" and not tables:
        _refuse_plain_text(task, str(path))
    if not files:
        raise LorateError(f"{path} holds no data files: expected {', '.join(SUFFIXES)} in it.")
    for file in files:
        check_inside(file, path)
    if not tables:
        return collect(str(path), (({"text": decode(file)}, f"{file}, line 1") for file in texts), task, columns)
    kept = [file for file in tables if not _says(file, path, _HELD_OUT)]
    kept = kept if any(_says(file, path, {"train", "training"}) for file in tables) and kept else tables
    found = collect(str(path), (value for file in kept for value in _values(file, task, columns)), task, columns)
    left = [str(file.relative_to(path)) for file in files if file not in kept]
    if left:
        shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        found.notes.append(f"{path}: not read: {shown} (of {len(files)} files; --eval-data takes held-out ones).")
    return found


def _says(file: Path, folder: Path, words: set[str]) -> bool:
    """Whether a file's name, or that of a folder above it, has one of these words in it."""
    name = str(file.relative_to(folder)).lower()
    for mark in "/\\.-_":
        name = name.replace(mark, " ")
    return bool(words & set(name.split()))


def _refuse_plain_text(task: TaskKind, name: str) -> None:
    if task != "causal-lm":
        raise LorateError(
            f"{name}: plain text has no labels; {task} reads the columns {expected_keys(task)} from "
            f".jsonl, .json, .csv, .tsv or .parquet."
        )
