"""Options of a command written once: the fields of a dataclass, for every command that takes them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def with_options(kind: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the fields of a dataclass as options; its first argument is the object made of them.

    Args:
        kind: a dataclass whose fields are annotated as typer wants them.
    """
    hints = get_type_hints(kind, include_extras=True)
    fields = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command)

        @functools.wraps(command)
        def called(**given: Any) -> Any:
            return command(kind(**{field.name: given.pop(field.name) for field in fields}), **given)

        rest = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in list(own.parameters.values())[1:]]
        called.__signature__ = inspect.Signature([*fields, *rest])  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in (*fields, *rest)}
        return called

    return decorate
