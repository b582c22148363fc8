"""All commands together, and what happens when one fails."""

import sys
from io import StringIO, TextIOWrapper
from typing import Annotated

import typer

import lorate
from lorate.cli.commands import Commands
from lorate.cli.console import shown, stderr
from lorate.cli.launch import OTHER_FAILED, is_first
from lorate.errors import LorateError, MissingExtraError, OtherProcessError, StorageError

app = typer.Typer(
    cls=Commands,
    name="lorate",
    help="Fine-tune with LoRA without a learning rate to tune, and see whether the run converges.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(lorate.__version__)
        raise typer.Exit


@app.callback(
    epilog="Start with `lorate train --data chats.jsonl --dry-run`. `lorate COMMAND --help` shows examples.\n\n"
    "Exit codes: 0 done; 1 stopped by an alarm, or failed; 2 wrong input; 3 another process of the run failed; "
    "130 interrupted (continue with --resume; `reproduce` and `alpha calibrate` with the same command, and they leave "
    "with 143 if they were asked to end)."
)
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str] | None = None) -> int:
    """Run a command line: the words after ``lorate``, those of this process if not given; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    try:
        words = sys.argv[1:] if arguments is None else arguments
        result = app(args=words, standalone_mode=False, obj=words)
    except OtherProcessError as error:
        if is_first():
            stderr.print(f"[dim]lorate: {_escaped(error)}[/]", soft_wrap=True)
        return OTHER_FAILED
    except (LorateError, MissingExtraError) as error:
        stderr.print(f"[bold red]lorate:[/] {_escaped(error)}", soft_wrap=True)
        return 1 if isinstance(error, StorageError) else 2
    except OSError as error:
        # some libraries raise it with a sentence only, and a file that is written to does not say its name
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror}." if error.strerror else str(error) or type(error).__name__
        stderr.print(f"[bold red]lorate:[/] {_escaped(what)}", soft_wrap=True)
        return 1
    except MemoryError as error:
        stderr.print(f"[bold red]lorate:[/] not enough memory ({_escaped(error) or 'none left'}).", soft_wrap=True)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        stderr.print("[bold red]lorate:[/] interrupted")
        return 130
    except BaseException as error:
        # click's own: wrong options, --help
        show = getattr(error, "show", None)
        if show is None:
            raise
        message = StringIO()
        show(message)
        sys.stderr.write(shown(message.getvalue()))
        return int(getattr(error, "exit_code", 2))
    return result if isinstance(result, int) else 0


def _escaped(error: object) -> str:
    """One line and printable, whatever file names and data are in it, and no markup."""
    from rich.markup import escape

    line = " ".join(str(error).split())
    return escape("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line))
