"""``lorate certify``: what is proved about a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stdout


def certify(run: Annotated[Path, typer.Argument(help="A directory that lorate train or lorate.Monitor wrote.")]) -> int:
    """Check every inequality that is proved about a full-batch run, step by step.

    Exit code 0: all that was checked holds; 1: something is violated, for instance the loss rose; 2: nothing can be
    certified, and why (mini-batches, dropout).

    Example: `lorate certify runs/logistic`
    """
    from lorate.monitor.certificate import certify as check

    certificate = check(run)
    if certificate.reason is not None:
        stdout.print(f"Not certifiable: {escape(certificate.reason)}.", soft_wrap=True)
        return certificate.exit_code
    table = Table("claim", "figures", "", title=f"Certificate of {escape(str(run))}", show_lines=True)
    for line in certificate.lines:
        kind = "proved" if line.proved else "observed"
        colour = "green" if line.verdict == "holds" else "bold red"
        table.add_row(escape(line.claim), escape(line.figures), f"[{colour}]{line.verdict}[/]\n[dim]{kind}[/]")
    stdout.print(table)
    stdout.print(f"Regime: {escape(certificate.regime)}.", soft_wrap=True)
    for title, items in (("Assumed", certificate.assumptions), ("Not proved", certificate.not_proved)):
        stdout.print(f"{title}: {escape('; '.join(items))}.", soft_wrap=True)
    return certificate.exit_code
