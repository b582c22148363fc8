"""A place to run things in, that notices what is written outside the part they may write to."""

import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
from torch._inductor.runtime.cache_dir_utils import cache_dir

from lorate.cli.app import run as command_line

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_written: list[str] | None = None  # an audit hook stays for good: it listens while this is a list


def _listen(event: str, details: tuple[Any, ...]) -> None:
    if _written is None:
        return
    paths = details[:2] if event in _EVENTS else ()
    if event == "open" and (details[2] or 0) & _WRITING:
        paths = details[:1]
    _written.extend(os.path.abspath(os.fsdecode(path)) for path in paths if isinstance(path, (str, bytes)))


sys.addaudithook(_listen)
for place in (matplotlib.get_cachedir, matplotlib.get_configdir):  # made at first use, whoever uses it
    place()


class Box:
    """A fresh folder with a bystander's files in it; only ``out`` and ``runs`` may be written to.

    Args:
        place: where it is made; what is there is deleted.
    """

    def __init__(self, place: Path) -> None:
        self.place = place.resolve()
        shutil.rmtree(self.place, ignore_errors=True)
        self.bystander = self.place / "bystander"
        self.out = self.place / "out"
        self.bystander.mkdir(parents=True)
        self.out.mkdir()
        (self.bystander / "notes.txt").write_text("not yours")
        (self.bystander / "report.html").write_text("<p>not lorate's")

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write files into the box."""
        for name, content in files.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.place / name).write_bytes(content)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, the box is the current directory, and nothing is written outside what may be written to."""
        global _written
        allowed = (self.out, self.place / "runs", Path("/dev"), Path(cache_dir()))  # torch's own, made on import
        before, home = self._content(), Path.cwd()
        os.chdir(self.place)
        _written = []
        try:
            with patch("tempfile.tempdir", str(self.out)):
                yield
        finally:
            written, _written = _written, None
            os.chdir(home)
        strays = {one for one in written if not any(Path(one).is_relative_to(place) for place in allowed)}
        assert not strays, f"written outside the run directory: {sorted(strays)}"
        assert self._content() == before, "files outside the run directory have changed"

    def _content(self) -> dict[str, bytes | None]:
        own = [path for path in self.place.rglob("*") if path.relative_to(self.place).parts[0] not in ("out", "runs")]
        return {str(path): path.read_bytes() if path.is_file() else None for path in own}


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def say(arguments: list[str]) -> Said:
    """Run ``lorate`` with these words, on streams that take UTF-8 and nothing else, as a terminal's do."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors) for errors in ("strict", "backslashreplace")]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = command_line(arguments)
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
    return Said(code, *texts)


def check_said(said: Said) -> None:
    """Success, or a reason: one line of ``lorate:``, the usage, or a verdict on standard output."""
    assert said.code in (0, 1, 2), said
    assert "Traceback (most recent" not in said.err, said.err
    if said.code:
        reasons = re.findall(r"^lorate: .+$", said.err, flags=re.MULTILINE)
        usage = re.search("^Usage:", said.err, flags=re.MULTILINE)
        assert len(reasons) == 1 or usage or said.out.strip(), said
        if reasons and not usage:
            assert said.err.endswith(reasons[0] + "\n"), said  # in one line, with nothing after it
