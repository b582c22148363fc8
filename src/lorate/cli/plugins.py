"""Commands that other packages bring, by the entry points of the group ``lorate.commands``.

An entry point names a function with typer's annotations, or a `typer.Typer` with several. It is imported when all
commands are listed, or when a command is called that is not lorate's own.
"""

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from lorate.errors import LorateError

GROUP = "lorate.commands"


class Commands(TyperGroup):
    """lorate's own commands, and after them those of other packages."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names."""
        self.commands.update(self._others)
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None if there is none."""
        if cmd_name not in self.commands:
            self.commands.update(self._others)
        return super().get_command(ctx, cmd_name)

    @cached_property
    def _others(self) -> dict[str, Any]:
        points = {point.name: point for point in entry_points(group=GROUP)}
        return {name: load(point) for name, point in sorted(points.items()) if name not in self.commands}


def load(point: EntryPoint) -> Any:
    """The command of an entry point; one that cannot be had says so when it is called, and spoils nothing else."""
    try:
        return _command(point.name, point.load())
    except Exception as error:
        where = point.dist.name if point.dist else point.value
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _command(point.name, _broken(f"The command {point.name!r} of {where} cannot be loaded ({reason})."))


def _command(name: str, function: Any) -> Any:
    holder = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    if isinstance(function, typer.Typer):
        holder.add_typer(function, name=name)
    else:
        holder.command(name)(function)
    return typer.main.get_group(holder).commands[name]


def _broken(sentence: str) -> Callable[[], None]:
    def broken() -> None:
        raise LorateError(sentence)

    broken.__doc__ = sentence
    return broken
