"""One piece of work of a sweep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """One piece of work, done in a process of its own.

    Attributes:
        name: unique in the sweep, letters, digits and ``-_=.,+`` only; names the file of the result.
        function: a function of a module, called with the arguments; returns what JSON can hold.
        arguments: plain values.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    arguments: Mapping[str, Any]
