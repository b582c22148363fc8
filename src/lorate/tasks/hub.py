"""Read records from a data set on the Hugging Face hub."""

from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.images import fetched_image
from lorate.tasks.kinds import TaskKind
from lorate.tasks.quiet import quiet
from lorate.tasks.records import Record, RecordSet, check_record, record_kind


def read_hub(name: str, task: TaskKind) -> RecordSet:
    """Fetch a data set through ``datasets.load_dataset`` and check its records like those of a file.

    The split ``train`` is read, or the only one where it has another name.

    Raises:
        LorateError: no connection, no such data set, no such columns, or a malformed row.
    """
    datasets = require("datasets", extra="hf")
    splits = fetch_hub(name)
    if "train" not in splits and len(splits) != 1:
        raise LorateError(f"{name} has no split named train; it has {', '.join(map(str, splits))}.")
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    kind = record_kind(rows.column_names, task, name)
    label = rows.features.get("label")
    names = label.names if isinstance(label, datasets.ClassLabel) else None
    if kind == "labelled-image":
        if not isinstance(rows.features["image"], datasets.Image):
            raise LorateError(f"{name}: the column image does not hold images.")
        rows = rows.cast_column("image", datasets.Image(decode=False))  # the bytes tell duplicates apart
    records = []
    for number, row in enumerate(rows, start=1):
        where = f"{name}, row {number}"
        if names is not None:
            row = {**row, "label": _class_name(row["label"], names, where)}
        records.append(_image(row, where) if kind == "labelled-image" else check_record(row, kind, where))
    return RecordSet(name, kind, records)


def fetch_hub(name: str) -> Any:
    """All splits of a data set on the hub, a ``datasets.DatasetDict``.

    Raises:
        LorateError: no connection, or no such data set.
    """
    datasets = require("datasets", extra="hf")
    try:
        with quiet():
            return datasets.load_dataset(name)
    except Exception as error:  # datasets raises its own, the hub client's and pyarrow's types here
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise LorateError(
            f"The data set {name} could not be fetched from the Hugging Face hub ({reason}): "
            "give a local file or folder."
        ) from error


def _class_name(index: object, names: list[str], where: str) -> str:
    if not isinstance(index, int) or not 0 <= index < len(names):
        raise LorateError(f"{where}: has no label.")
    return names[index]


def _image(row: dict[str, Any], where: str) -> Record:
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise LorateError(f"{where}: label must be a string or a whole number.")
    return fetched_image(row["image"], str(label), where)
