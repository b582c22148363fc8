"""Load training and evaluation data from anywhere a user may have it."""

import hashlib
import os
import random
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.embedded import DIGITS, HUMAN_EVAL, digits_records, human_eval_records
from lorate.tasks.files import suffix
from lorate.tasks.formats import KINDS_OF_TASK, parse_columns
from lorate.tasks.hub import drawn, fetch_hub, is_saved, one_split, read_rows, rows_of, stream
from lorate.tasks.images import image_record, read_image_folder
from lorate.tasks.kinds import RecordKind, TaskKind
from lorate.tasks.model_source import HUB_ID
from lorate.tasks.readers import SUFFIXES, read_records
from lorate.tasks.records import Record, RecordSet, collect
from lorate.tasks.split import pair_records, split_records

_WEIGHTED = re.compile(r"(.+)=([0-9]*\.?[0-9]+)", re.DOTALL)


@dataclass(frozen=True)
class LoadedData:
    """Records divided into two parts without a common record.

    Attributes:
        train: a ``datasets.Dataset`` with the columns of ``record_kind`` (``label`` is a ``ClassLabel``).
        eval: the held-out part, of the same form.
        name: for humans and run files; accepted again by `load_data`.
        record_kind: the one kind of all records.
        labels: names of the classes in the order of their numbers, sorted; None without classes.
        left_out: training records dropped because they are also in the evaluation data.
        fingerprint: SHA-256 of the records in the order of both parts: the same data give the same one.
        format: the columns that were read, in words.
        places: file and line of the records of both parts, in their order.
        notes: sentences about what was left out, or taken together.
    """

    train: Any
    eval: Any
    name: str
    record_kind: RecordKind
    labels: list[str] | None
    left_out: int = 0
    fingerprint: str = ""
    format: str = ""
    places: tuple[list[str], list[str]] = field(default=([], []), repr=False)
    notes: list[str] = field(default_factory=list)


def load_data(
    spec: str | None,
    *,
    eval_spec: str | None = None,
    kind: TaskKind,
    eval_fraction: float = 0.1,
    seed: int = 0,
    columns: str | None = None,
    max_records: int | None = None,
) -> LoadedData:
    """Read, check, shuffle and divide data; see `lorate.tasks.split.split_records` for the rule.

    Args:
        spec: local file (see `lorate.tasks.readers.SUFFIXES`), folder of such files, folder of ``save_to_disk`` (with
            ``:SPLIT``), image folder (a sub-folder a class), hub id (``OWNER/NAME:CONFIGURATION:SPLIT``, of which the
            two last may be left out or empty), or None for the embedded data: HumanEval for language models,
            scikit-learn's digits for images. Several, separated by commas, are taken together; ``=2`` after one trains
            on each of its records twice in an epoch, ``=0.5`` on half of them.
        eval_spec: the evaluation data in the same forms; None holds out a part of ``spec``.
        kind: the task.
        eval_fraction: the part to hold out, where ``eval_spec`` is None.
        seed: of the shuffle.
        columns: which columns to read, such as ``prompt=question,completion=answer``; None recognises them.
        max_records: of each data set draw this many at most, by ``seed``. A data set of the hub and a JSONL or Parquet
            file are then read record by record, so that neither disk nor memory has to hold the rest; the records are
            drawn from a window of 10,000 that moves over them.

    Raises:
        LorateError: malformed data, in one sentence with file and line.
    """
    if kind not in KINDS_OF_TASK:
        raise LorateError(f"Unknown task {kind!r}: expected one of {', '.join(KINDS_OF_TASK)}.")
    named = parse_columns(columns)
    source = _read_all(spec, kind, named, max_records, seed)
    labels = source.labels() or None
    if labels is not None and len(labels) < 2:
        raise LorateError(f"{source.name} has the one class {labels[0]!r}: classification needs at least 2.")
    if eval_spec is None:
        train, held_out = split_records(source, eval_fraction, seed)
        left_out, notes = 0, _notes(source)
    else:
        evaluation = _read_all(eval_spec, kind, named, max_records, seed)
        train, held_out = pair_records(source, evaluation, seed)
        left_out, notes = len(source.records) - len(train), [*_notes(source), *_notes(evaluation)]
    train = _weighted(train)
    return LoadedData(
        train=_dataset(train, source.kind, labels),
        eval=_dataset(held_out, source.kind, labels),
        name=source.name,
        record_kind=source.kind,
        labels=labels,
        left_out=left_out,
        fingerprint=_fingerprint(train, held_out),
        format=source.format,
        places=([record.where for record in train], [record.where for record in held_out]),
        notes=notes,
    )


def _notes(source: RecordSet) -> list[str]:
    if not source.empty:
        return source.notes
    count = len(source.empty)
    what = "1 empty record is" if count == 1 else f"{count:,} empty records are"
    first = "" if count == 1 else "the first: "
    return [*source.notes, f"{what} left out ({first}{source.empty[0]})."]


def _weighted(records: list[Record]) -> list[Record]:
    """Each record as often as its weight says; of the fractional part, the first records of the shuffled ones."""
    if all(record.weight == 1 for record in records):
        return records
    result, owed = [], dict.fromkeys({record.weight for record in records}, 0.5)
    for record in records:
        owed[record.weight] += record.weight
        times = int(owed[record.weight])
        owed[record.weight] -= times
        result += [record] * times
    if not result:
        raise LorateError("The weights of the data leave no record to train on: give larger ones.")
    return result


def _fingerprint(*parts: list[Record]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for record in (str(len(part)), *(repr((r.identity, r.fields.get("label"))) for r in part)):
            digest.update(hashlib.sha256(record.encode("utf-8")).digest())
    return digest.hexdigest()


def _read_all(spec: str | None, kind: TaskKind, columns: dict[str, str], most: int | None, seed: int) -> RecordSet:
    """One data set, or several with their weights as one."""
    parts = divided(spec)
    sets = []
    for part, weight in parts:
        found = _read(part, kind, columns) if most is None else _some(part, kind, columns, most, seed)
        weighted = found.records if weight == 1 else [replace(record, weight=weight) for record in found.records]
        sets.append(replace(found, records=weighted))
    if len(sets) == 1:
        return sets[0]
    for other in sets[1:]:
        if other.kind != sets[0].kind:
            raise LorateError(
                f"{other.name} holds {other.kind} records, but {sets[0].name} holds {sets[0].kind} records: "
                "data sets that are trained on together must be of one kind."
            )
    return RecordSet(
        name=spec or "",
        kind=sets[0].kind,
        records=[record for found in sets for record in found.records],
        format="; ".join(dict.fromkeys(found.format for found in sets)),
        empty=[where for found in sets for where in found.empty],
        notes=[note for found in sets for note in found.notes],
    )


def divided(spec: str | None) -> list[tuple[str | None, float]]:
    """The data sets that a specification names, with their weights; a path that exists is one, whatever its name.

    Raises:
        LorateError: a weight that is not above 0.

    >>> divided("chats.jsonl,owner/name:main=2")
    [('chats.jsonl', 1.0), ('owner/name:main', 2.0)]
    """
    if spec is None or _exists(spec):
        return [(spec, 1.0)]
    parts: list[tuple[str | None, float]] = []
    for part in (piece.strip() for piece in spec.split(",")):
        match = None if _exists(part) else _WEIGHTED.fullmatch(part)
        name, weight = (match[1], float(match[2])) if match else (part, 1.0)
        if not 0 < weight <= 1000:
            raise LorateError(f"The weight of {name} must be above 0 and at most 1000, got {weight:g}.")
        parts.append((name, weight))
    return parts


def check_places(spec: str | None, kind: TaskKind) -> None:
    """See that there are such files; a hub id is believed.

    Raises:
        LorateError: a file is not there, or no embedded data fits the task.
    """
    for part, _ in divided(spec):
        if part is None or part in (HUMAN_EVAL, DIGITS):
            _fitting(part, kind)
        elif _local(part) is None:
            _on_hub(part)


def _read(spec: str | None, kind: TaskKind, columns: dict[str, str]) -> RecordSet:
    if spec is None or spec in (HUMAN_EVAL, DIGITS):
        return _embedded(spec, kind)
    if (place := _local(spec)) is not None:
        path, split = place
        if kind == "image-classification" and suffix(path) != ".parquet" and not is_saved(path):
            return read_image_folder(path)
        return read_records(path, kind, columns, split)
    name, configuration, split = _on_hub(spec)
    return read_rows(one_split(fetch_hub(name, configuration), split, name), spec, kind, columns)


def _some(spec: str | None, kind: TaskKind, columns: dict[str, str], most: int, seed: int) -> RecordSet:
    """At most ``most`` records, without reading the others where that can be done."""
    embedded = spec in (None, HUMAN_EVAL, DIGITS)
    place = None if embedded else _local(str(spec))
    lazy = place is None or (place[0].is_file() and suffix(place[0]) in (".jsonl", ".ndjson", ".parquet"))
    if embedded or not lazy or kind == "image-classification":
        found = _read(spec, kind, columns)
        kept = random.Random(seed).sample(found.records, min(most, len(found.records)))
        return replace(found, records=kept)
    if place is not None:
        rows = stream(place[0])
    else:
        name, configuration, split = _on_hub(str(spec))
        rows = one_split(fetch_hub(name, configuration, streaming=True), split, name)
    values = drawn(rows, most, seed, str(spec))
    return collect(str(spec), rows_of(values, str(spec), columns, rows.features), kind, columns)


def _local(spec: str) -> tuple[Path, str | None] | None:
    """File or folder, and what is behind a colon; None if there is none of that name."""
    name, _, rest = spec.partition(":")
    if _exists(spec):
        return Path(spec), None
    return (Path(name), rest.rpartition(":")[2]) if rest and _exists(name) else None


def _on_hub(spec: str) -> tuple[str, str | None, str | None]:
    """Id, configuration and split of a data set on the hub.

    Raises:
        LorateError: this cannot be one.
    """
    name, _, rest = spec.partition(":")
    configuration, _, split = rest.partition(":")
    if "\0" in name or suffix(Path(name)) in SUFFIXES or not HUB_ID.fullmatch(name):
        raise LorateError(f"No data at {spec!r}: no such file or folder, and not a hub id (owner/name).")
    return name, configuration or None, split or None


def _exists(spec: str) -> bool:
    return os.path.exists(spec)


def _fitting(spec: str | None, kind: TaskKind) -> str:
    """The name of the embedded data for a task, which is refused if others were asked for."""
    fitting = {"causal-lm": HUMAN_EVAL, "image-classification": DIGITS}.get(kind)
    if fitting is None:
        raise LorateError(f"There is no embedded data for {kind}: give a .jsonl, .json or .csv file.")
    if spec not in (None, fitting):
        raise LorateError(f"{spec} is not data for {kind}: expected {fitting} or a file.")
    return fitting


def _embedded(spec: str | None, kind: TaskKind) -> RecordSet:
    if _fitting(spec, kind) == HUMAN_EVAL:
        problems = enumerate(human_eval_records(), start=1)
        values = ((fields, f"{HUMAN_EVAL}, record {number}") for number, fields in problems)
        return collect(HUMAN_EVAL, values, "causal-lm", {})
    images: list[Record] = []
    for number, fields in enumerate(digits_records(), start=1):
        image: Any = fields["image"]
        images.append(image_record(image["bytes"], image, str(fields["label"]), f"{DIGITS}, image {number}"))
    return RecordSet(DIGITS, "labelled-image", images)


def _dataset(records: list[Record], kind: RecordKind, labels: list[str] | None) -> Any:
    datasets = require("datasets", extra="hf")
    text, turns = datasets.Value("string"), datasets.List(datasets.Json())
    columns = {
        "prompt-completion": {"prompt": text, "completion": text},
        "messages": {"messages": turns, "tools": datasets.Json()},
        "text": {"text": text},
        "preference": {name: turns for name in ("prompt", "chosen", "rejected")} | {"tools": datasets.Json()},
        "preference-text": {"prompt": text, "chosen": text, "rejected": text},
        "labelled-text": {"text": text, "label": datasets.ClassLabel(names=labels or [])},
        "labelled-image": {"image": datasets.Image(), "label": datasets.ClassLabel(names=labels or [])},
    }[kind]
    rows = [{name: record.fields.get(name) for name in columns} for record in records]
    return datasets.Dataset.from_list(rows, features=datasets.Features(columns))
