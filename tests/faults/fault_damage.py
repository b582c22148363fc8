"""Kinds of damage to a file: each takes the file, a folder outside the run, and a seed."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, Path], None]


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink()


def _holding(content: bytes) -> Damage:
    def damage(file: Path, outside: Path) -> None:
        _remove(file)
        file.write_bytes(content)

    return damage


def _changed(change: Callable[[bytes, random.Random], bytes], seed: int = 0) -> Damage:
    def damage(file: Path, outside: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(change(content, random.Random(f"{file.name} {seed}")))

    return damage


def _cut(content: bytes, choose: random.Random) -> bytes:
    return content[: choose.randrange(max(1, len(content)))]


def _flip(content: bytes, choose: random.Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def _digit(content: bytes, choose: random.Random) -> bytes:
    """Another digit: what a reader cannot see without a digest."""
    places = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    if not places:
        return content
    place = choose.choice(places)
    return content[:place] + bytes([48 + (content[place] - 48 + choose.randrange(1, 10)) % 10]) + content[place + 1 :]


def _torn(content: bytes, choose: random.Random) -> bytes:
    start = choose.randrange(max(1, len(content)))
    return content[:start] + content[start + 100 :]


def _noise(content: bytes, choose: random.Random) -> bytes:
    start = choose.randrange(max(1, len(content)))
    return content[:start] + choose.randbytes(50) + content[start:]


def _without_a_line(content: bytes, choose: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if lines:
        del lines[choose.randrange(len(lines))]
    return b"".join(lines)


def _shuffled(content: bytes, choose: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    choose.shuffle(lines)
    return b"".join(lines)


def _directory(file: Path, outside: Path) -> None:
    _remove(file)
    file.mkdir()


def _full_directory(file: Path, outside: Path) -> None:
    _remove(file)
    file.mkdir()
    (file / "thesis.tex").write_text("years of work")


def _pipe(file: Path, outside: Path) -> None:
    _remove(file)
    os.mkfifo(file)


def _device(file: Path, outside: Path) -> None:
    _remove(file)
    file.symlink_to("/dev/zero")


def _link_out(file: Path, outside: Path) -> None:
    """A link to a copy of the file that is not lorate's to write to."""
    target = outside / f"copy-{file.name}"
    shutil.move(file, target)
    file.symlink_to(target)


def _link_elsewhere(file: Path, outside: Path) -> None:
    _remove(file)
    file.symlink_to(outside / "notes.txt")


def _dangling(file: Path, outside: Path) -> None:
    _remove(file)
    file.symlink_to(outside / "nothing-there")


def _loop(file: Path, outside: Path) -> None:
    _remove(file)
    file.symlink_to(file.name)


def _unreadable(file: Path, outside: Path) -> None:
    file.chmod(0)


def _missing(file: Path, outside: Path) -> None:
    _remove(file)


ON_ANY: dict[str, Damage] = {
    "missing": _missing,
    "a directory": _directory,
    "a directory of someone else": _full_directory,
    "a pipe": _pipe,
    "a device": _device,
    "a link out of the run": _link_out,
    "a link to notes": _link_elsewhere,
    "a dangling link": _dangling,
    "a link to itself": _loop,
    "empty": _holding(b""),
    "zeros": _holding(bytes(5000)),
    "noise": _holding(random.Random(0).randbytes(5000)),
    "null": _holding(b"null"),
    "a number": _holding(b"3"),
    "a text": _holding(b'"x"'),
    "a list": _holding(b"[]"),
    "a list of numbers": _holding(b"[1, 2, 3]"),
    "a map": _holding(b"{}"),
    "a map of maps": _holding(b'{"lorate": {"lorate": {}}, "files": {}, "losses": {}, "rank": {}}\n'),
    "nested without end": _holding(b"[" * 100_000),
    "a number without end": _holding(b"9" * 5000),
    "of version 99": _holding(b'{"lorate": "99.0", "format": 99, "files": {}, "step": 1}\n'),
    "of version 99 without a format": _holding(b'{"lorate": "99.0"}\n'),
}
"""For files and directories."""

ON_FILES: dict[str, Damage] = {
    **{f"cut {seed}": _changed(_cut, seed) for seed in range(4)},
    **{f"a bit {seed}": _changed(_flip, seed) for seed in range(6)},
    **{f"a digit {seed}": _changed(_digit, seed) for seed in range(6)},
    **{f"torn {seed}": _changed(_torn, seed) for seed in range(2)},
    **{f"noise within {seed}": _changed(_noise, seed) for seed in range(2)},
    **{f"without a line {seed}": _changed(_without_a_line, seed) for seed in range(2)},
    "lines in another order": _changed(_shuffled),
    "twice": _changed(lambda content, _: content * 2),
    "more at the end": _changed(lambda content, _: content + b"{"),
    "a mark in front": _changed(lambda content, _: b"\xef\xbb\xbf" + content),
    "other line ends": _changed(lambda content, _: content.replace(b"\n", b"\r\n")),
    "UTF-16": _changed(lambda content, _: content.decode("utf-8", "replace").encode("utf-16")),
}
"""For files only; what they hold decides."""
