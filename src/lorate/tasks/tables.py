"""Rows of a table in text: CSV, with commas, semicolons, tabs or bars."""

import csv
import io
import re
import sys
from collections.abc import Iterator

from lorate.errors import LorateError
from lorate.tasks.records import Located

DELIMITERS = ",;\t|"


def table_rows(text: str, file: str, delimiters: str = DELIMITERS) -> Iterator[Located]:
    """Rows as objects, by the names of the header.

    The delimiter is the one of ``delimiters`` that divides the header into the most columns, the first of equals. A
    line ``sep=;``, which Excel writes, says it. A column without a name, such as the index that pandas writes, and a
    value of it, are left out. A field may be of any size.

    Raises:
        LorateError: two columns of one name, a row of another length, or quotes that do not close; with the line.
    """
    limit = csv.field_size_limit(sys.maxsize)  # one for the whole process
    try:
        yield from _rows(text, file, delimiters)
    finally:
        csv.field_size_limit(limit)


def _rows(text: str, file: str, delimiters: str) -> Iterator[Located]:
    first = text.split("\n", 1)[0].strip().strip('"')
    skipped = int(first.lower().startswith("sep=") and len(first) == 5)
    if skipped:
        delimiters, text = first[-1], text.partition("\n")[2]
    start = re.split("[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = max(delimiters, key=lambda one: len(next(csv.reader([start], delimiter=one), [])))
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1 + skipped
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
            header = [name.strip() for name in row]
            named = [name for name in header if name]
            if len(set(named)) < len(named):
                raise LorateError(f"{where}: two columns of one name in the header.")
            continue
        if len(row) != len(header):
            raise LorateError(f"{where}: {len(row)} values, but the header has {len(header)} columns.")
        yield {name: value for name, value in zip(header, row, strict=True) if name}, where
