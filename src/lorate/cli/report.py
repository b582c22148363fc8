"""``lorate report``: draw runs as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lorate.cli.console import stdout


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are drawn side by side.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="HTML file to write. Default: report.html in the run; for several runs, in the current directory.",
        ),
    ] = None,
) -> None:
    """Draw one or several runs as one self-contained HTML page that opens offline.

    An earlier report is replaced; any other file is left alone.

    Examples:
    `lorate report runs/one`

    `lorate report runs/one runs/two -o compare.html`
    """
    from lorate.report import write_report

    stdout.print(f"Report: {escape(str(write_report(runs, output)))}", soft_wrap=True)
