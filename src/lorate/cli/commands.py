"""The commands by name, each imported when it is called: ``lorate --help`` answers before torch is loaded."""

import ast
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import typer
import typer.core

from lorate.cli.console import stderr
from lorate.cli.launch import is_first

PLACES = {
    "train": "lorate.cli.train:train",
    "eval": "lorate.cli.afterwards:evaluate",
    "chat": "lorate.cli.afterwards:chat",
    "merge": "lorate.cli.afterwards:merge",
    "push": "lorate.cli.afterwards:push",
    "report": "lorate.cli.report:report",
    "certify": "lorate.cli.certify:certify",
    "rules": "lorate.cli.rules:rules",
    "reproduce": "lorate.cli.reproduce:reproduce",
    "env": "lorate.cli.env:env",
    "alpha": "lorate.cli.alpha:alpha",
    "attention": "lorate.cli.attention:attention",
}
"""Module and name of each command, a function or a group."""

SLOW = ("train", "eval", "chat", "merge", "push")
"""Commands that load models."""


class Commands(typer.core.TyperGroup):
    """Imports a command when it is called; for the list of all only the first lines of their files are read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: typer.core.TyperCommand(name, help=summary(place)) for name, place in PLACES.items()}
        self._is_listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of all commands."""
        self._is_listing = True
        super().format_help(ctx, formatter)
        self._is_listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command itself; in the list only its name and its summary."""
        if self._is_listing or cmd_name not in PLACES:
            return super().get_command(ctx, cmd_name)
        if cmd_name in SLOW and ctx is not None and is_first():
            stderr.print("[dim]Loading libraries ...[/]")
        module, _, name = PLACES[cmd_name].partition(":")
        found, holder = getattr(importlib.import_module(module), name), typer.Typer(rich_markup_mode="markdown")
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
        else:
            holder.command(cmd_name)(found)
            holder.callback()(lambda: None)  # else a single command is no group
        group: Any = typer.main.get_group(holder)
        return group.commands[cmd_name]


def summary(place: str) -> str:
    """First sentence of a command's docstring, or the help of a group, without importing its module."""
    module, _, name = place.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name in (name, f"_{name}"):
            return (ast.get_docstring(node) or "").split("\n\n")[0]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _names(node) == [name]:
            for keyword in node.value.keywords:
                if keyword.arg == "help":
                    return str(ast.literal_eval(keyword.value))
    raise AssertionError(f"{place} has no summary")


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]
