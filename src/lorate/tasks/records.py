"""What a training record looks like, and a strict check of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorate.errors import LorateError
from lorate.tasks.kinds import RecordKind, TaskKind

KEYS: dict[RecordKind, tuple[str, ...]] = {
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "text": ("text",),
    "labelled-text": ("text", "label"),
    "labelled-image": ("image", "label"),
}
KINDS_OF_TASK: dict[TaskKind, tuple[RecordKind, ...]] = {
    "causal-lm": ("prompt-completion", "messages", "text"),
    "sequence-classification": ("labelled-text",),
    "image-classification": ("labelled-image",),
}


@dataclass(frozen=True)
class Record:
    """One checked record.

    Attributes:
        fields: the keys of its kind and no others.
        where: file and line, for errors.
        identity: two records of one identity are duplicates; for a labelled record its input alone, so
            that the same input under two labels never stands in both parts of a split.
    """

    fields: dict[str, Any]
    where: str
    identity: str


@dataclass(frozen=True)
class RecordSet:
    """All records of one source, of one kind."""

    name: str
    kind: RecordKind
    records: list[Record]

    def __post_init__(self) -> None:
        """Refuse a source without records."""
        if not self.records:
            raise LorateError(f"{self.name} is empty: expected at least one record.")

    def labels(self) -> list[str]:
        """Names of the classes, sorted; empty without labels."""
        return sorted({record.fields["label"] for record in self.records if "label" in record.fields})


def expected_keys(task: TaskKind) -> str:
    """The keys that a task's records may have, in words.

    >>> expected_keys("causal-lm")
    'prompt, completion; or messages; or text'
    """
    return "; or ".join(", ".join(KEYS[kind]) for kind in KINDS_OF_TASK[task])


def record_kind(keys: Sequence[str], task: TaskKind, where: str) -> RecordKind:
    """The one kind of record that these keys make.

    Other keys are allowed beside them and are left out.

    Raises:
        LorateError: no kind fits, or more than one does.

    >>> record_kind(["id", "prompt", "completion"], "causal-lm", "a.jsonl, line 1")
    'prompt-completion'
    """
    fitting = [kind for kind in KINDS_OF_TASK[task] if set(KEYS[kind]) <= set(keys)]
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(_shown(key) for key in keys) or "none"
    if not fitting:
        raise LorateError(f"{where}: expected the keys {expected_keys(task)}; found {found}.")
    raise LorateError(f"{where}: the keys {found} fit {' and '.join(fitting)} records: keep those of one kind.")


def check_record(value: object, kind: RecordKind, where: str) -> Record:
    """Check the values of a record of a known kind, and keep the keys of that kind.

    Raises:
        LorateError: a key is missing, or a value is empty or of the wrong type.
    """
    if not isinstance(value, dict):
        raise LorateError(f"{where}: expected an object with keys and values, found {_type(value)}.")
    missing = [key for key in KEYS[kind] if key not in value]
    if missing:
        found = ", ".join(_shown(key) for key in value) or "none"
        raise LorateError(f"{where}: {', '.join(missing)} missing in this {kind} record; its keys are: {found}.")
    fields = {key: _CHECKS[key](value[key], key, where) for key in KEYS[kind]}
    identity = {key: field for key, field in fields.items() if key != "label"}
    return Record(fields, where, repr(sorted(identity.items())))


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise LorateError(f"{where}: {key} must be a string, found {_type(value)}.")
    if not value.strip():
        raise LorateError(f"{where}: {key} is empty.")
    return _encodable(value, key, where)


def _label(value: object, key: str, where: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise LorateError(f"{where}: {key} must be a string or a whole number, found {_type(value)}.")
    return _text(value, key, where)


def _messages(value: object, key: str, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise LorateError(f"{where}: {key} must be a list of at least one message, found {_type(value)}.")
    messages = []
    for number, message in enumerate(value, start=1):
        place = f"{where}, message {number}"
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            found = ", ".join(_shown(k) for k in message) if isinstance(message, dict) else _type(message)
            raise LorateError(f"{place}: expected an object with the keys role and content, found {found}.")
        messages.append({part: _text(message[part], part, place) for part in ("role", "content")})
    if all(message["role"] != "assistant" for message in messages):
        raise LorateError(f"{where}: {key} holds no message of the role assistant, so nothing to learn from.")
    return messages


def _encodable(value: str, key: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LorateError(f"{where}: {key} holds half of a surrogate pair, which is no character.") from error
    return value


def _shown(key: str) -> str:
    """A key as an error shows it: on one line, printable, not too long."""
    plain = key if key.isprintable() and key.strip() else ascii(key)
    return plain if len(plain) <= 40 else plain[:37] + "..."


def _type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    # a row of the hub may hold anything: bytes, a date, an image
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


_CHECKS: dict[str, Any] = {
    "prompt": _text,
    "completion": _text,
    "text": _text,
    "label": _label,
    "messages": _messages,
}
