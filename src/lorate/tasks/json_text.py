"""Values in JSON text, each with the line where it begins."""

import json
import re
from collections.abc import Iterator

from lorate.errors import LorateError
from lorate.tasks.formats import shown
from lorate.tasks.records import Located

_SPACE = re.compile(r"[ \t\r\n]*")


def json_lines(text: str, file: str) -> Iterator[Located]:
    """JSONL: a value per line; blank lines are skipped.

    Raises:
        LorateError: a line is not one value.
    """
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028
        if line.strip():
            value, end = _parse(line, _space(line, 0), file, number)
            if _space(line, end) != len(line):
                raise LorateError(f"{file}, line {number}: more than one JSON value on a line.")
            yield value, f"{file}, line {number}"


def json_values(text: str, file: str) -> Iterator[Located]:
    """The objects of a ``.json`` file: in a list, in the one list of an object, in columns, or one after another.

    Raises:
        LorateError: not JSON, or no list of objects.
    """
    position = _space(text, 0)
    if position == len(text):
        return
    line = 1 + text.count("\n", 0, position)
    if text[position] == "[":
        yield from _list(text, position, file, line)
        return
    value, end = _parse(text, position, file, line)
    rest = _space(text, end)
    if rest == len(text) and isinstance(value, dict):
        yield from _inside(value, f"{file}, line {line}", file)
        return
    while True:  # JSON lines under another name
        yield value, f"{file}, line {line}"
        line += text.count("\n", position, rest)
        position = rest
        if position == len(text):
            return
        value, end = _parse(text, position, file, line)
        rest = _space(text, end)


def _inside(value: dict[str, object], where: str, file: str) -> Iterator[Located]:
    """The records of a file that is one object: a list under some name, or a list (pandas: an object) a column."""
    lists = {key: entry for key, entry in value.items() if isinstance(entry, list) and _holds_objects(entry)}
    names = [key for key in lists if key not in ("messages", "conversations", "tools")]
    if len(names) == 1:
        for number, entry in enumerate(lists[names[0]], start=1):
            yield entry, f"{file}, {shown(names[0])} {number}"
        return
    if len(names) > 1:
        raise LorateError(
            f"{where}: the object holds several lists of records ({', '.join(map(shown, names))}): keep one in a file."
        )
    columns = {key: list(entry.values()) if isinstance(entry, dict) else entry for key, entry in value.items()}
    lengths = {len(entry) if isinstance(entry, list) else -1 for entry in columns.values()}
    if len(lengths) == 1 and -1 not in lengths and not lists:
        for number in range(lengths.pop()):
            yield {key: entry[number] for key, entry in columns.items()}, f"{file}, record {number + 1}"  # type: ignore[index]
        return
    yield value, where


def _holds_objects(values: list[object]) -> bool:
    return bool(values) and all(isinstance(entry, dict) for entry in values)


def _list(text: str, opened: int, file: str, line: int) -> Iterator[Located]:
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
