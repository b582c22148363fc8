"""The commands by name, each imported when it is called: ``lorate --help`` answers before torch is loaded.

Other packages bring commands by entry points of the group ``lorate.commands``, which name a function with typer's
annotations, or a `typer.Typer` with several.
"""

import ast
import importlib
import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lorate.errors import LorateError

PLACES = {
    "train": "lorate.cli.train:train",
    "eval": "lorate.cli.afterwards:evaluate",
    "chat": "lorate.cli.afterwards:chat",
    "merge": "lorate.cli.afterwards:merge",
    "push": "lorate.cli.afterwards:push",
    "report": "lorate.cli.report:report",
    "certify": "lorate.cli.certify:certify",
    "rules": "lorate.cli.rules:rules",
    "alpha": "lorate.cli.alpha:alpha",
    "env": "lorate.cli.env:env",
}
"""Module and name of each of lorate's own commands, a function or a group."""

GROUP = "lorate.commands"


class Commands(TyperGroup):
    """lorate's own commands, and after them those of other packages.

    A command is imported when it is called; for the list of all only the first lines of their files are read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        points = {point.name: point for point in entry_points(group=GROUP) if point.name not in PLACES}
        self._others = dict(sorted(points.items()))
        self.commands = {name: TyperCommand(name, help=summary(place)) for name, place in PLACES.items()}
        self.commands |= {name: TyperCommand(name) for name in self._others}
        self._is_listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of all commands."""
        self._is_listing = True
        super().format_help(ctx, formatter)
        self._is_listing = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer would turn a Ctrl-C that it lets through into an exit code without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; in the list only its name and its summary; None if there is none."""
        if cmd_name in PLACES:
            if self._is_listing:
                return self.commands[cmd_name]
            module, _, name = PLACES[cmd_name].partition(":")
            return _command(cmd_name, getattr(importlib.import_module(module), name))
        point = self._others.get(cmd_name)
        if point is None:
            return super().get_command(ctx, cmd_name)
        return _listed(point) if self._is_listing else load(point)


def load(point: EntryPoint) -> Any:
    """The command of an entry point; one that cannot be had says so when it is called, and spoils nothing else."""
    try:
        return _command(point.name, point.load())
    except Exception as error:
        where = point.dist.name if point.dist else point.value
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _command(point.name, _broken(f"The command {point.name!r} of {where} cannot be loaded ({reason})."))


def summary(place: str) -> str:
    """First sentence of a command's docstring, or the help of a group, without importing its module.

    Raises:
        LookupError: it is not written there.
    """
    module, _, name = place.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name in (name, f"_{name}"):
                return (ast.get_docstring(node) or "").split("\n\n")[0]
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _names(node) == [name]:
                for keyword in node.value.keywords:
                    if keyword.arg == "help":
                        return str(ast.literal_eval(keyword.value))
    raise LookupError(f"{place} has no summary")


def _listed(point: EntryPoint) -> Any:
    """What the list says of another package's command, which is imported only if its file does not say it."""
    try:
        return TyperCommand(point.name, help=summary(point.value))
    except Exception:  # whatever is wrong with another package
        return load(point)


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


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
