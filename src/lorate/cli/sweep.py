"""What the commands that do many runs share: where they write, and what they say when they are interrupted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from lorate.cli.console import stderr
from lorate.runs.signals import ended_as_by_ctrl_c


def directory(text: str) -> Path:
    """The place that ``--output`` names; an empty one, as from a variable that is not set, is not this directory."""
    if not text.strip():
        raise typer.BadParameter("It is empty: name a directory, or leave the option out.")
    return Path(text)


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Inside, Ctrl-C and a request to end stop the command with one line and the exit code of the signal.

    Args:
        kept: says which runs are not lost.
    """
    try:
        with ended_as_by_ctrl_c():
            yield
    except KeyboardInterrupt as error:
        stderr.print(f"[bold red]lorate:[/] interrupted; {kept()}, the same command continues.", soft_wrap=True)
        raise typer.Exit(getattr(error, "code", 130)) from None
