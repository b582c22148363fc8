"""``lorate certify``: what is known about a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stdout


def certify(run: Annotated[Path, typer.Argument(help="A directory that lorate train or lorate.Monitor wrote.")]) -> int:
    """State what is known about a run: proved, observed or estimated, and under which assumptions.

    For a full-batch run every inequality is checked, step by step. For a mini-batch run the slopes on unseen batches
    show how the true loss has changed, with 95% confidence.

    Exit code 0: everything that was checked holds; 1: something is violated, for instance the loss rose; 2: nothing
    can be certified, with the reason (other data at some step, dropout, adapters changed between steps).

    Example: `lorate certify runs/logistic`
    """
    from lorate.monitor.certificate import certify as check

    certificate = check(run)
    if certificate.reason is not None:
        stdout.print(f"Not certifiable: {escape(certificate.reason)}.", soft_wrap=True)
        return certificate.exit_code
    table = Table("claim", "figures", "", title=f"Certificate of {escape(str(run))}", show_lines=True)
    for line in certificate.lines:
        colour = "green" if line.verdict == "holds" else "bold red"
        table.add_row(escape(line.claim), escape(line.figures), f"[{colour}]{line.verdict}[/]\n[dim]{line.standing}[/]")
    stdout.print(table)
    for title, items in certificate.remarks:
        stdout.print(f"{title}: {escape('; '.join(items))}.", soft_wrap=True)
    if certificate.exit_code == 1:
        stdout.print(
            "Where something is violated, either it was never proved or one of the assumptions is false.",
            soft_wrap=True,
        )
    return certificate.exit_code
