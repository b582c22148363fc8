"""``lorate reproduce``: run an experiment and decide its claims."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.cli.sweep import directory, interruptible
from lorate_papers.experiments import EXPERIMENTS, Claim, Options, taking

STYLES = {"holds": "green", "does not hold": "red", "not testable here": "dim"}


def reproduce(
    name: Annotated[str, typer.Argument(help=f"The experiment: {', '.join(EXPERIMENTS)}.")],
    quick: Annotated[bool, typer.Option("--quick", help="The short form, under a minute on two cores.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed, 0 or more.")] = 0,
    data: Annotated[
        str | None, typer.Option(help=f"Data to use instead of the embedded set: {', '.join(taking('data'))}.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Model to use instead of the embedded one: {', '.join(taking('model'))}."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", help="Number of processes, each with one thread. Default: one per core."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=directory,
            metavar="PATH",
            help="Directory to create or continue. Default: runs/NAME, with the options in its name.",
        ),
    ] = None,
) -> None:
    """Run an experiment, draw its figures and decide its claims.

    Writes a directory with figures (SVG and PNG), claims.json, all numbers as results.jsonl, and report.html.
    After Ctrl-C the same command continues: finished runs are not repeated.

    Examples:
    `lorate reproduce attention --quick`

    `lorate reproduce attention --jobs 4 -o runs/attention`
    """
    from lorate.freed_memory import keep_freed_memory
    from lorate_papers.experiments.runner import reproduce as start

    keep_freed_memory()
    options = Options(quick=quick, seed=seed, data=data, model=model)
    place = output or Path("runs") / _folder_name(name, options)
    kept = "finished runs are kept"
    with (
        interruptible(lambda: kept),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[last]}", markup=True),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        ) as bar,
    ):
        task = bar.add_task(name if name in EXPERIMENTS else "", total=None, last="")

        def progress(done: int, total: int, last: str) -> None:
            nonlocal kept
            kept = f"{done} of {total} runs are kept"
            bar.update(task, completed=done, total=total, last=last)
            if not stderr.is_terminal and (done == total or done % max(1, total // 10) == 0):
                stderr.print(f"{escape(name)}: {done} of {total} runs done")

        def warn(sentence: str) -> None:
            stderr.print(f"[bold yellow]lorate:[/] {escape(sentence)}", soft_wrap=True)

        outcome = start(name, place, options, jobs=jobs, progress=progress, warn=warn)
    stdout.print(_table(outcome.claims))
    stdout.print(
        f"{outcome.repeated} runs in {outcome.seconds:.0f} s\nReport: {escape(str(outcome.folder.report))}",
        soft_wrap=True,
    )


def _folder_name(name: str, options: Options) -> str:
    """The experiment and what differs from its plain form, in words that a folder may be called by."""
    words = [name]
    words += [re.sub(r"\W+", "-", Path(own).name) for own in (options.data, options.model) if own is not None]
    words += ["quick"] * options.quick + [f"seed{options.seed}"] * bool(options.seed)
    return "-".join(words)


def _table(claims: Sequence[Claim]) -> Table:
    table = Table("verdict", "claim", "what decides it", show_lines=True)
    for claim in claims:
        sentence = f"{escape(claim.claim)}\n[dim]Protocol: {escape(claim.protocol)}[/]"
        table.add_row(f"[{STYLES[claim.verdict]}]{claim.verdict}[/]", sentence, escape(claim.value))
    return table
