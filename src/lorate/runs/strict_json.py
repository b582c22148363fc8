"""JSON that every reader accepts: no NaN, no Infinity, no arrays of numpy or torch."""

import json
import math
from collections.abc import Mapping
from typing import Any


def _plain(value: Any) -> Any:
    """The same value with null for every non-finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def _from_array(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch numbers and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON; expected numbers, text, lists and maps.")


def encode(value: Any, indent: int | None = None) -> str:
    """Strict JSON: numbers of numpy and torch become plain ones, non-finite ones null.

    Raises:
        TypeError: the value holds something that JSON does not know.

    >>> encode({"loss": float("nan"), "eta": 0.5})
    '{"loss": null, "eta": 0.5}'
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False, default=_from_array)
    except ValueError:  # a non-finite number; rare, so the ordinary record is not walked through
        return json.dumps(_plain(value), indent=indent, allow_nan=False, default=_from_array)
