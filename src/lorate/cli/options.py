"""The command line's options, made from the fields of a dataclass of options: nothing is written twice."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import typer

from lorate.training.options import choices, kinds

_NAMED = inspect.Parameter.KEYWORD_ONLY


def with_options(config: type, command: Callable[..., Any], leave_out: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A command with an option for each field of ``config``, beside those of its own.

    Its own parameters come last in ``--help``. What was typed is in the context's ``params``, see `typed`.

    Args:
        config: the dataclass.
        command: takes the context first; the options do not reach it as arguments.
        leave_out: fields without an option.
    """
    own = inspect.signature(command, eval_str=True)
    fields = [field for field in dataclasses.fields(config) if field.name not in leave_out]
    context, *rest = own.parameters.values()
    parameters = [context, *(_parameter(field) for field in fields), *(one.replace(kind=_NAMED) for one in rest)]

    def run(**arguments: Any) -> Any:
        return command(**{name: value for name, value in arguments.items() if name in own.parameters})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def typed(config: type, context: typer.Context) -> dict[str, Any]:
    """The fields of ``config`` that were typed, so that a YAML file can supply the others."""
    named = {field.name: field for field in dataclasses.fields(config)}
    return {
        name: _value(named[name], value)
        for name, value in context.params.items()
        if name in named and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }


def _parameter(field: dataclasses.Field[Any]) -> inspect.Parameter:
    meta, words = field.metadata, choices(field.type)
    more: dict[str, Any] = {}
    kind = next(kind for kind in kinds(field.type) if kind is not type(None))
    if words:
        kind, more["metavar"] = str, "|".join(words)
    elif get_origin(kind) is list:
        kind, more["metavar"] = str, "NAME,NAME"
    if meta["law"]:
        kind, more = Any, {"parser": _number_or(meta["law"]), "metavar": f"NUMBER|{meta['law']}"}
    flags = (f"--{field.name.replace('_', '-')}",) if kind is bool else ()
    info = typer.Option(*flags, help=meta["help"], rich_help_panel=meta["panel"], **more)
    default = field.default
    annotation: Any = Annotated[kind | None if default is None else kind, info]
    return inspect.Parameter(field.name, _NAMED, default=default, annotation=annotation)


def _value(field: dataclasses.Field[Any], value: Any) -> Any:
    if any(get_origin(kind) is list for kind in kinds(field.type)):
        names = re.split(r",(?![^{\[(]*[}\])])", value)  # the commas of a regular expression are its own
        return [name.strip() for name in names if name.strip()]
    return value


def _number_or(word: str) -> Callable[[str | float], float | str]:
    def parse(text: str | float) -> float | str:
        if text == word:
            return word
        try:
            return float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is neither a number nor {word}.") from None

    return parse
