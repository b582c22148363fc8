"""Load training and evaluation data from anywhere a user may have it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.embedded import DIGITS, HUMAN_EVAL, digits_records, human_eval_records
from lorate.tasks.hub import read_hub
from lorate.tasks.images import image_record, read_image_folder
from lorate.tasks.kinds import RecordKind, TaskKind
from lorate.tasks.model_source import HUB_ID
from lorate.tasks.readers import read_records
from lorate.tasks.records import KINDS_OF_TASK, Record, RecordSet, check_record
from lorate.tasks.split import pair_records, split_records

_FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".txt", ".text")


@dataclass(frozen=True)
class LoadedData:
    """Records divided into two parts without a common record.

    Attributes:
        train: a ``datasets.Dataset`` with the columns of ``record_kind`` (``label`` is a ``ClassLabel``).
        eval: the held-out part, of the same form.
        name: for humans and run files; accepted again by `load_data`.
        record_kind: the one kind of all records.
        labels: names of the classes in the order of their numbers, sorted; None without classes.
        left_out: training records dropped because they also stand in the evaluation data.
        fingerprint: SHA-256 of the records in the order of both parts: the same data give the same one.
    """

    train: Any
    eval: Any
    name: str
    record_kind: RecordKind
    labels: list[str] | None
    left_out: int = 0
    fingerprint: str = ""


def load_data(
    spec: str | None, *, eval_spec: str | None = None, kind: TaskKind, eval_fraction: float = 0.1, seed: int = 0
) -> LoadedData:
    """Read, check, shuffle and divide data; see `lorate.tasks.split.split_records` for the rule.

    Args:
        spec: hub id, local ``.jsonl``/``.json``/``.csv``/``.txt``/``.text`` file, folder of text files,
            image folder (a sub-folder a class), or None for the embedded data: HumanEval for language
            models, scikit-learn's digits for images.
        eval_spec: the evaluation data in the same forms; None holds out a part of ``spec``.
        kind: the task.
        eval_fraction: the part to hold out, where ``eval_spec`` is None.
        seed: of the shuffle.

    Raises:
        LorateError: malformed data, in one sentence with file and line.
    """
    if kind not in KINDS_OF_TASK:
        raise LorateError(f"Unknown task {kind!r}: expected one of {', '.join(KINDS_OF_TASK)}.")
    source = _read(spec, kind)
    labels = source.labels() or None
    if labels is not None and len(labels) < 2:
        raise LorateError(f"{source.name} has the one class {labels[0]!r}: classification needs at least 2.")
    if eval_spec is None:
        train, held_out = split_records(source, eval_fraction, seed)
        left_out = 0
    else:
        train, held_out = pair_records(source, _read(eval_spec, kind), seed)
        left_out = len(source.records) - len(train)
    return LoadedData(
        train=_dataset(train, source.kind, labels),
        eval=_dataset(held_out, source.kind, labels),
        name=source.name,
        record_kind=source.kind,
        labels=labels,
        left_out=left_out,
        fingerprint=_fingerprint(train, held_out),
    )


def _fingerprint(*parts: list[Record]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for record in (str(len(part)), *(repr((r.identity, r.fields.get("label"))) for r in part)):
            digest.update(hashlib.sha256(record.encode("utf-8")).digest())
    return digest.hexdigest()


def _read(spec: str | None, kind: TaskKind) -> RecordSet:
    if spec is None or spec in (HUMAN_EVAL, DIGITS):
        return _embedded(spec, kind)
    if os.path.exists(spec):
        return read_image_folder(Path(spec)) if kind == "image-classification" else read_records(Path(spec), kind)
    if spec.lower().endswith(_FILE_SUFFIXES) or not HUB_ID.fullmatch(spec):
        raise LorateError(f"No data at {spec!r}: no such file or folder, and not a hub id (owner/name).")
    return read_hub(spec, kind)


def _embedded(spec: str | None, kind: TaskKind) -> RecordSet:
    fitting = {"causal-lm": HUMAN_EVAL, "image-classification": DIGITS}.get(kind)
    if fitting is None:
        raise LorateError(f"There is no embedded data for {kind}: give a .jsonl, .json or .csv file.")
    if spec not in (None, fitting):
        raise LorateError(f"{spec} is no data for {kind}: expected {fitting} or a file.")
    if fitting == HUMAN_EVAL:
        records = [
            check_record(fields, "prompt-completion", f"{HUMAN_EVAL}, record {number}")
            for number, fields in enumerate(human_eval_records(), start=1)
        ]
        return RecordSet(HUMAN_EVAL, "prompt-completion", records)
    images: list[Record] = []
    for number, fields in enumerate(digits_records(), start=1):
        image: Any = fields["image"]
        images.append(image_record(image["bytes"], image, str(fields["label"]), f"{DIGITS}, image {number}"))
    return RecordSet(DIGITS, "labelled-image", images)


def _dataset(records: list[Record], kind: RecordKind, labels: list[str] | None) -> Any:
    datasets = require("datasets", extra="hf")
    text = datasets.Value("string")
    columns = {
        "prompt-completion": {"prompt": text, "completion": text},
        "messages": {"messages": datasets.List({"role": text, "content": text})},
        "text": {"text": text},
        "labelled-text": {"text": text, "label": datasets.ClassLabel(names=labels or [])},
        "labelled-image": {"image": datasets.Image(), "label": datasets.ClassLabel(names=labels or [])},
    }[kind]
    return datasets.Dataset.from_list([r.fields for r in records], features=datasets.Features(columns))
