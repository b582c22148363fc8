"""What a Trainer counts and collects while it computes a loss, kept from a replay."""

import copy
from collections import deque
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

CONTAINERS = (dict, list, set, deque)


@contextmanager
def attributes_unchanged(owner: Any) -> Iterator[None]:
    """Attributes, and the containers in them down to any depth, hold afterwards what they hold now.

    Containers are the same objects; what they hold is not copied. Data sets are left out, since they may be long.

    Args:
        owner: the object, such as a Trainer with its ``_metrics``.
    """
    attributes = dict(vars(owner))
    contents: dict[int, tuple[Any, Any]] = {}
    for name, value in attributes.items():
        if not name.endswith("dataset"):
            _collect(value, contents)
    try:
        yield
    finally:
        vars(owner).clear()
        vars(owner).update(attributes)
        for container, content in contents.values():
            if list(map(id, _parts(container))) != list(map(id, _parts(content))):  # tensors have no ==
                container.clear()
                (container.update if isinstance(container, dict | set) else container.extend)(content)


def same_in_new_containers(value: Any) -> Any:
    """Copies of dicts and lists down to any depth, with the same tensors in them.

    Args:
        value: the inputs of a model; losses take entries out of them.
    """
    if isinstance(value, list):
        return [same_in_new_containers(inner) for inner in value]
    copied = copy.copy(value) if isinstance(value, MutableMapping) else value
    if copied is not value:
        for name, inner in value.items():
            copied[name] = same_in_new_containers(inner)
    return copied


def _collect(value: Any, found: dict[int, tuple[Any, Any]]) -> None:
    if not isinstance(value, CONTAINERS) or id(value) in found:
        return
    found[id(value)] = value, value.copy()
    for inner in value.values() if isinstance(value, dict) else value:
        _collect(inner, found)


def _parts(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else [*container]
