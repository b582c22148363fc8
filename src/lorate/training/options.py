"""Options as fields of a dataclass: each has its type, default, range and help in one place.

The command line, YAML files and the documentation read them there.
"""

import dataclasses
import reprlib
import sys
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lorate.errors import LorateError

BRIEFLY = reprlib.Repr()  # a few lines of YAML with references can stand for a text that fills the memory
BRIEFLY.maxlevel, BRIEFLY.maxstring, BRIEFLY.maxother = 2, 80, 80

Range = tuple[Callable[[Any], bool], str]
POSITIVE: Range = (lambda value: value >= 1, "1 or more")


def option(panel: str, default: Any, help: str, check: Range | None = None, *, law: str | None = None) -> Any:
    """A field that is an option.

    Args:
        panel: heading of ``--help`` under which it appears.
        default: its value if it is left out.
        help: one sentence.
        check: what its values fulfil, and that in words; None, which stands for a default, is not checked.
        law: a word that the command line and YAML take for a number.
    """
    return dataclasses.field(default=default, metadata={"panel": panel, "help": help, "check": check, "law": law})


def check_options(options: Any) -> None:
    """Check type and range of every field.

    Raises:
        LorateError: the first one that does not fit.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        _check_type(field.name, value, field.type)
        fits, words = field.metadata["check"] or POSITIVE
        if field.metadata["check"] and value is not None and not fits(value):
            raise LorateError(f"{field.name} must be {words}, got {BRIEFLY.repr(value)}.")


def describe_options(kind: type) -> type:
    """Class decorator: the docstring's section ``Attributes`` is made from the fields."""
    lines = [f"    {field.name}: {field.metadata['help']}" for field in dataclasses.fields(kind)]
    kind.__doc__ = f"{(kind.__doc__ or '').rstrip()}\n\nAttributes:\n" + "\n".join(lines) + "\n"
    return kind


def choices(declared: Any) -> tuple[str, ...]:
    """The words that a type allows; none if it is not made of words."""
    return next((get_args(kind) for kind in kinds(declared) if get_origin(kind) is Literal), ())


def kinds(declared: Any) -> tuple[Any, ...]:
    """The types that a union consists of; a type alone is one."""
    return get_args(declared) if get_origin(declared) in (UnionType, Union) else (declared,)


def _check_type(name: str, value: Any, declared: Any) -> None:
    """YAML and JSON give any type; say which one was expected."""
    if any(_fits(value, kind) for kind in kinds(declared)):
        return
    words = [word for kind in kinds(declared) if (word := _word(kind))]
    raise LorateError(f"{name} must be {' or '.join(words)}, got {BRIEFLY.repr(value)}.")


def _fits(value: Any, declared: Any) -> bool:
    if get_origin(declared) is Literal:
        return value in get_args(declared)
    if get_origin(declared) is list:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if isinstance(value, bool):
        return declared is bool
    if isinstance(value, int):  # of any length in Python, but a float and torch cannot hold all of them
        return (declared is int and abs(value) < 2**63) or (declared is float and abs(value) <= sys.float_info.max)
    return isinstance(value, declared)


def _word(declared: Any) -> str:
    if get_origin(declared) is Literal:
        return "one of " + ", ".join(get_args(declared))
    if get_origin(declared) is list:
        return "a list of names"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "left out"}
    return words[declared]
