"""Records from data sets that the package ``datasets`` reads: of the hub, of ``save_to_disk``, of Parquet files."""

import re
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.files import suffix
from lorate.tasks.formats import Columns, columns_of
from lorate.tasks.images import stored_image
from lorate.tasks.kinds import TaskKind
from lorate.tasks.progress import counted
from lorate.tasks.quiet import quiet
from lorate.tasks.records import Located, Record, RecordSet, collect


def read_parquet(file: Path) -> Any:
    """A Parquet file as a ``datasets.Dataset``, in memory.

    Raises:
        LorateError: it cannot be read.
    """
    datasets = require("datasets", extra="hf")
    parquet = require("pyarrow.parquet", extra="hf")
    try:
        return datasets.Dataset(datasets.table.InMemoryTable(parquet.read_table(file)))
    except Exception as error:  # pyarrow and datasets raise types of their own
        raise LorateError(f"{file} cannot be read as Parquet: {_reason(error)}.") from error


def is_saved(folder: Path) -> bool:
    """Whether the folder was written by ``save_to_disk``."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read_saved(folder: Path, split: str | None) -> Any:
    """One split of what ``save_to_disk`` wrote.

    Raises:
        LorateError: it cannot be read, or has no such split.
    """
    datasets = require("datasets", extra="hf")
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise LorateError(f"{folder} cannot be read as a saved data set: {_reason(error)}.") from error
    return one_split(found, split, str(folder)) if isinstance(found, dict) else found


def fetch_hub(name: str, configuration: str | None = None, *, streaming: bool = False) -> Any:
    """All splits of a data set on the hub, a ``datasets.DatasetDict``.

    Raises:
        LorateError: no connection, no such data set, or a configuration must be chosen.
    """
    datasets = require("datasets", extra="hf")
    options = ({"name": configuration} if configuration else {}) | ({"streaming": True} if streaming else {})
    try:
        with quiet():
            return datasets.load_dataset(name, **options)
    except Exception as error:  # datasets raises its own, the hub client's and pyarrow's types here
        found = re.search(r"available configs: (\[.*?\])", str(error), re.DOTALL)
        if found:
            names = ", ".join(re.findall(r"'([^']+)'", found[1])[:20])
            raise LorateError(
                f"{name} has several configurations ({names}): say which, as in {name}:{_first(names)}."
            ) from error
        raise LorateError(
            f"The data set {name} could not be fetched from the Hugging Face hub ({_reason(error)}): "
            "give a local file or folder."
        ) from error


def stream(file: Path) -> Any:
    """The records of a JSONL or Parquet file one after another, of which only those that are read are in memory.

    Raises:
        LorateError: it cannot be read.
    """
    datasets = require("datasets", extra="hf")
    builder = "parquet" if suffix(file) == ".parquet" else "json"
    try:
        with quiet():
            return datasets.load_dataset(builder, data_files=str(file.resolve()), split="train", streaming=True)
    except Exception as error:
        raise LorateError(f"{file} cannot be read record by record: {_reason(error)}.") from error


def drawn(rows: Any, count: int, seed: int, name: str) -> list[dict[str, Any]]:
    """Some rows of a stream, drawn from a window of 10,000 that moves over it; nothing behind the last one is read.

    Raises:
        LorateError: the stream breaks off.
    """
    try:
        with quiet():
            return list(rows.shuffle(seed=seed, buffer_size=min(10_000, 10 * count)).take(count))
    except Exception as error:  # whatever the network, the hub or a damaged file raise
        raise LorateError(f"{name} cannot be read record by record: {_reason(error)}.") from error


def one_split(splits: Any, wanted: str | None, name: str) -> Any:
    """The split that was asked for, or ``train``, or the only one.

    Raises:
        LorateError: there is none of that name.
    """
    choice = wanted or ("train" if "train" in splits or len(splits) != 1 else next(iter(splits)))
    if choice not in splits:
        raise LorateError(
            f"{name} has no split named {choice}; it has {', '.join(map(str, splits))}"
            + ("." if wanted else f": say which, as in {name}::{next(iter(splits))}.")
        )
    return splits[choice]


def rows_of(rows: Iterable[Any], name: str, columns: Columns, features: Any) -> Iterator[Located]:
    """The rows of a data set by column, with the names of classes for their numbers."""
    datasets = require("datasets", extra="hf")
    labels = {
        theirs: features[theirs].names
        for theirs in {columns.get("label", "label")} & set(features or {})
        if isinstance(features[theirs], datasets.ClassLabel)
    }
    size = len(rows) if isinstance(rows, Sized) else 0
    for number, row in enumerate(counted(rows, size), start=1):
        where = f"{name}, row {number}"
        for theirs, names in labels.items():
            row = {**row, theirs: _class_name(row[theirs], names, where)}
        yield row, where


def read_rows(rows: Any, name: str, task: TaskKind, columns: Columns, folder: Path | None = None) -> RecordSet:
    """Check the rows of a data set like the records of a file.

    Args:
        rows: the data set.
        name: for humans.
        task: what the records are for.
        columns: names of columns.
        folder: of a local data set, where the images are that it names.

    Raises:
        LorateError: no such columns, or a malformed row.
    """
    if task != "image-classification":
        return collect(name, rows_of(rows, name, columns, rows.features), task, columns)
    datasets = require("datasets", extra="hf")
    chosen = columns_of(rows.column_names, task, name, columns)
    image = chosen["image"]
    if not isinstance(rows.features[image], datasets.Image):
        raise LorateError(f"{name}: the column {image} does not hold images.")
    rows = rows.cast_column(image, datasets.Image(decode=False))  # the bytes tell duplicates apart
    located = rows_of(rows, name, columns, rows.features)
    return RecordSet(name, "labelled-image", list(_images(located, image, chosen["label"], folder)))


def _images(rows: Iterable[Located], image: str, label: str, folder: Path | None) -> Iterator[Record]:
    for row, where in rows:
        assert isinstance(row, dict)
        name = row[label]
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise LorateError(f"{where}: label must be a string or a whole number.")
        yield stored_image(row[image], str(name), where, folder)


def _class_name(index: object, names: list[str], where: str) -> str:
    if not isinstance(index, int) or not 0 <= index < len(names):
        raise LorateError(f"{where}: has no label.")
    return names[index]


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _first(names: str) -> str:
    return names.split(",")[0]
