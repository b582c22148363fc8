"""Checked records, and the collection of them from parsed values of one source."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorate.errors import LorateError
from lorate.tasks.formats import BESIDE, LABELLED, Columns, columns_of, converted, expected_keys, text
from lorate.tasks.kinds import PREFERENCES, RecordKind, TaskKind
from lorate.tasks.messages import kind_of
from lorate.tasks.preferences import fault

Located = tuple[object, str]
"""A parsed value, and where it begins: file and line."""


@dataclass(frozen=True)
class Record:
    """One checked record.

    Attributes:
        fields: the keys of its kind and no others.
        where: file and line, for errors.
        identity: two records of one identity are duplicates; for a labelled record its input alone, so
            that the same input under two labels is never in both parts of a split.
        weight: how often it is trained on in an epoch.
    """

    fields: dict[str, Any]
    where: str
    identity: str
    weight: float = 1.0


@dataclass(frozen=True)
class RecordSet:
    """All records of one source, of one kind.

    Attributes:
        name: of the source.
        kind: of the records.
        records: those with something in them.
        format: the columns that were read, in words.
        empty: where the empty records are, which are left out.
        notes: sentences about what was found.
    """

    name: str
    kind: RecordKind
    records: list[Record]
    format: str = ""
    empty: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse a source without records."""
        if not self.records:
            if self.notes:
                raise LorateError(f"{self.name} holds no record to learn from. {' '.join(self.notes)}")
            if self.empty:
                count = len(self.empty)
                which = "its only record has no" if count == 1 else f"none of its {count:,} records has an"
                raise LorateError(
                    f"{self.name} holds nothing to learn: {which} answer, completion or text ({self.empty[0]})."
                )
            raise LorateError(f"{self.name} is empty: expected at least one record.")

    def labels(self) -> list[str]:
        """Names of the classes, sorted; empty without labels."""
        return sorted({record.fields["label"] for record in self.records if "label" in record.fields})


class Collector:
    """Records of one source, one after another.

    Args:
        name: of the source.
        task: the kind of task.
        columns: what the user said about his columns.
    """

    def __init__(self, name: str, task: TaskKind, columns: Columns) -> None:
        self._name, self._task, self._columns = name, task, columns
        self._chosen: dict[str, str] | None = None
        self._keys: set[frozenset[str]] = set()
        self._unread: set[str] = set()
        self._kind: RecordKind | None = None
        self._spelled: dict[str, set[str]] = {}
        self._records: list[Record] = []
        self._empty: list[str] = []
        self._faults: dict[str, list[str]] = {}

    def add(self, value: object, where: str) -> Record | None:
        """Check a value and keep it; returns the record, or None for one with nothing to learn, which is only counted.

        Raises:
            LorateError: no object, a column is missing or of another format than the first, or a value is wrong.
        """
        if not isinstance(value, dict):
            raise LorateError(f"{where}: expected an object with keys and values, found {kind_of(value)}.")
        chosen = self._columns_of(value, where)
        if "completion" in chosen and not self._columns and str(value.get("label")).lower() in ("true", "false"):
            raise LorateError(
                f"{where}: prompt, completion and a label of true or false are KTO's records, in which false marks a "
                "bad completion: keep the true ones and drop the label, or make pairs (prompt, chosen, rejected)."
            )
        fields = {ours: value.get(theirs) for ours, theirs in chosen.items() if theirs in value or ours in BESIDE}
        kind: RecordKind
        if self._task in LABELLED:
            kind, fields = "labelled-text", self._labelled(fields, where)
        else:
            kind, fields = converted(fields, where)
        self._kind = self._kind or kind
        if kind != self._kind:
            raise LorateError(f"{where}: a {kind} record among {self._kind} records; keep to one format in a file.")
        if kind in PREFERENCES:
            if reason := fault(fields, kind):
                self._faults.setdefault(reason, []).append(where)
                return None
        elif _is_empty(fields, kind):
            self._empty.append(where)
            return None
        record = Record(fields, where, identity(fields))
        self._records.append(record)
        return record

    def result(self) -> RecordSet:
        """All records so far.

        Raises:
            LorateError: there is none.
        """
        pairs = (self._chosen or {}).items()
        names = ", ".join(theirs if ours == theirs else f"{theirs} (as {ours})" for ours, theirs in pairs)
        left = f"; not read: {', '.join(sorted(self._unread)[:10])}" if self._unread else ""
        notes = [
            f"{self._name}: {' and '.join(map(repr, sorted(forms)))} differ in blanks only and are one class."
            for forms in self._spelled.values()
            if len(forms) > 1
        ]
        notes += [
            f"{self._name}: {len(places):,} {'record is' if len(places) == 1 else 'records are'} left out, because "
            f"{reason} (the first: {places[0]})."
            for reason, places in self._faults.items()
        ]
        return RecordSet(self._name, self._kind or "text", self._records, names + left, self._empty, notes)

    def _columns_of(self, value: dict[str, Any], where: str) -> dict[str, str]:
        """The chosen columns of the first record; the others must have them, as far as they cannot be left out."""
        keys = frozenset(value)
        if self._chosen is None:
            self._chosen = columns_of(list(value), self._task, where, self._columns)
        elif keys not in self._keys:
            this = columns_of(list(value), self._task, where, self._columns)
            if not this.keys() <= self._chosen.keys():  # a column more, or another format
                if next(iter(this)) != next(iter(self._chosen)):
                    raise LorateError(
                        f"{where}: a record with the columns {', '.join(this)} among records with the columns "
                        f"{', '.join(self._chosen)}; keep to one format in a file."
                    )
                self._chosen |= this
        if keys not in self._keys:
            self._keys.add(keys)
            self._unread |= keys - set(self._chosen.values())
        return self._chosen

    def _labelled(self, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Text and label; a label may be a whole number, and blanks around it mean nothing."""
        label = fields["label"]
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise LorateError(f"{where}: label must be a string or a whole number, found {kind_of(label)}.")
        name = text(str(label), "label", where)
        if not name.strip():
            raise LorateError(f"{where}: label is empty.")
        self._spelled.setdefault(name.strip(), set()).add(name)
        return {"text": text(fields["text"], "text", where), "label": name.strip()}


def collect(name: str, values: Iterable[Located], task: TaskKind, columns: Columns) -> RecordSet:
    """Check every value against the format of the first one.

    Raises:
        LorateError: a value does not fit, or there is none.
    """
    collector = Collector(name, task, columns)
    for value, where in values:
        collector.add(value, where)
    return collector.result()


def identity(fields: Mapping[str, Any]) -> str:
    """What makes a record the same as another: its fields without the label."""
    plain = {key: value for key, value in fields.items() if key != "label"}
    if "messages" in plain:
        return json.dumps(plain, sort_keys=True, default=str)
    return repr(sorted(plain.items()))


def _is_empty(fields: Mapping[str, Any], kind: RecordKind) -> bool:
    """Whether there is nothing to learn, whatever the template: no text, no completion, no answer."""
    if kind == "messages":
        turns = fields["messages"]
        return not any(turn["role"] == "assistant" and _says(turn) for turn in turns)
    return not fields["completion" if kind == "prompt-completion" else "text"].strip()


def _says(turn: Mapping[str, Any]) -> bool:
    return bool(turn["content"].strip() or turn.get("tool_calls"))


__all__ = ["Collector", "Located", "Record", "RecordSet", "collect", "expected_keys", "identity"]
