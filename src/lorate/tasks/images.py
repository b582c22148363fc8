"""Read an image folder: a sub-folder for each class."""

import hashlib
import io
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.runs.reading import real
from lorate.tasks.files import check_inside, read_bytes
from lorate.tasks.records import Record, RecordSet

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
"""Pixels, decoded in this process. Pillow hands other formats to programs: PostScript to Ghostscript, which runs it."""


def read_image_folder(path: Path) -> RecordSet:
    """Read ``path/CLASS/image.png``; the names of the sub-folders are the labels.

    Every image is decoded once, so that a damaged one is found before training. Files that start with a
    dot and files of other kinds are skipped.

    Raises:
        LorateError: not a folder, no sub-folders, a class without images, an image that does not open, or a link that
            leads out of the folder.
    """
    from PIL import Image

    if not path.is_dir():
        raise LorateError(f"{path}: image classification reads a folder with one sub-folder of images per class.")
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    records = []
    for folder in _visible(path):
        if not folder.is_dir():
            continue
        if not _is_text(folder.name):
            raise LorateError(f"{folder}: the folder's name is the label and must be UTF-8; rename the folder.")
        files = [file for file in _visible(folder) if file.suffix.lower() in suffixes]
        if not files:
            raise LorateError(f"{folder} holds no images: every class needs at least one.")
        for file in files:
            check_inside(file, path)
        records += [_record(file, folder.name) for file in files]
    if not records:
        raise LorateError(f"{path} holds no images: expected a sub-folder of images for each class.")
    return RecordSet(str(path), "labelled-image", records)


def image_record(content: bytes, image: dict[str, Any], label: str, where: str) -> Record:
    """A checked record of one image.

    Args:
        content: the encoded file.
        image: what the ``Image`` feature of datasets stores: ``{"path": ..., "bytes": ...}``.
        label: name of the class.
        where: for errors.

    Raises:
        LorateError: the content is not an image of one of the `FORMATS`, whatever its name says.
    """
    from PIL import Image

    Image.init()
    try:
        with Image.open(io.BytesIO(content), formats=[kind for kind in FORMATS if kind in Image.OPEN]) as opened:
            opened.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LorateError(f"{where}: not a readable image ({type(error).__name__}).") from error
    return Record({"image": image, "label": label}, where, hashlib.sha256(content).hexdigest())


def stored_image(image: Any, label: str, where: str, folder: Path | None) -> Record:
    """A checked record of an image as a data set stores it; its bytes are kept, and not the name of a file.

    Args:
        image: ``{"path": ..., "bytes": ...}``.
        label: name of the class.
        where: for errors.
        folder: of a local data set, where relative paths begin; None for one of the hub.

    Raises:
        LorateError: there is no image, or it is a file outside ``folder`` and the folders that the hub's files are kept
            in: whoever wrote the data set must not choose which files of this machine are read.
    """
    from datasets import config
    from huggingface_hub import constants

    content, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (None, None)
    if not content and isinstance(path, str) and path:
        file = Path(path) if folder is None else folder / path
        allowed = [config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE]
        allowed += [] if folder is None else [folder]
        if not any(real(file).is_relative_to(real(place)) for place in allowed):
            remedy = "" if folder is None else f": move the images into {folder}, or store their bytes in the data set"
            raise LorateError(
                f"{where}: its image is the file {path[:200]}, which lies elsewhere and is not read{remedy}."
            )
        content = read_bytes(file)
    if not isinstance(content, bytes) or not content:
        raise LorateError(f"{where}: has no image.")
    return image_record(content, {"path": None, "bytes": content}, label, where)


def _record(file: Path, label: str) -> Record:
    return image_record(read_bytes(file), {"path": str(file), "bytes": None}, label, str(file))


def _is_text(name: str) -> bool:
    """Python reads bytes of a file name that are not UTF-8 as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
