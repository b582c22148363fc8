"""Files of data: their bytes and text, and not what a link in a folder leads to."""

from pathlib import Path

from lorate.errors import LorateError
from lorate.extras import require
from lorate.runs.reading import check_regular, real

PACKED = {".gz": "gzip", ".zst": "zstd"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def check_inside(entry: Path, folder: Path) -> None:
    """A folder from somewhere else may hold links, and its author should not choose which files of ours are read.

    Raises:
        LorateError: the entry is a link, or lies behind one, that leads out of the folder.
    """
    if not real(entry).is_relative_to(real(folder)):
        raise LorateError(
            f"{entry} is a link that leads out of {folder}: put a copy of the file or folder in its place."
        )


def read_bytes(file: Path) -> bytes:
    """The content of a file; ``.gz`` and ``.zst`` are unpacked.

    Raises:
        LorateError: it cannot be read, or is not a regular file.
    """
    try:
        check_regular(file)
        packing = PACKED.get(file.suffix.lower())
        if packing is None:
            return file.read_bytes()
        pyarrow = require("pyarrow", extra="hf")
        with pyarrow.input_stream(pyarrow.py_buffer(file.read_bytes()), compression=packing) as stream:
            return bytes(stream.read())
    except OSError as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
        raise LorateError(f"{file} cannot be read: {reason}.") from error


def decode(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, which is dropped.

    Raises:
        LorateError: it cannot be read, or is neither (with the line).
    """
    data = read_bytes(file)
    encoding = _MARKS.get(data[:2], "utf-8-sig")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise LorateError(f"{file}, line {line}: not {name} text; save the file in UTF-8.") from error


def suffix(file: Path) -> str:
    """The kind of file that a name says, in small letters, without that of the packing.

    >>> suffix(Path("a/chats.JSONL.gz"))
    '.jsonl'
    """
    name = file.with_suffix("") if file.suffix.lower() in PACKED else file
    return name.suffix.lower()
