"""Options of a command written once: the fields of dataclasses, for every command that takes them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

Command = Callable[..., Any]


def with_options(*kinds: type) -> Callable[[Command], Command]:
    """Give a command the fields of dataclasses as options; its first arguments are objects made of them.

    Args:
        kinds: dataclasses whose fields are annotated as typer wants them.
    """
    fields = [[_parameter(kind, field) for field in dataclasses.fields(kind)] for kind in kinds]

    def decorate(command: Command) -> Command:
        rest = list(inspect.signature(command).parameters.values())[len(kinds) :]
        options = [*(one for own in fields for one in own), *rest]

        @functools.wraps(command)
        def called(**given: Any) -> Any:
            pairs = zip(kinds, fields, strict=True)
            made = [kind(**{one.name: given.pop(one.name) for one in own}) for kind, own in pairs]
            return command(*made, **given)

        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in options]
        )
        called.__annotations__ = {one.name: one.annotation for one in options}
        return called

    return decorate


def _parameter(kind: type, field: dataclasses.Field[Any]) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    annotation = get_type_hints(kind, include_extras=True)[field.name]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
