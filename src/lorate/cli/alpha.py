"""``lorate alpha``: the law of lora_alpha, and its constants on a model and data of one's own."""

import shlex
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.cli.sweep import directory, interruptible
from lorate.cli.train import options_from_file, silence_libraries
from lorate.errors import LorateError
from lorate.scaling import lora_alpha
from lorate.tasks.kinds import TaskKind
from lorate.training.config import TrainConfig

alpha = typer.Typer(
    help="Compute lora_alpha by the square-root law, or fit the law on your own model and data.",
    epilog="Examples: `lorate alpha law 16`\n\n`lorate alpha calibrate --quick`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@alpha.command()
def law(
    rank: Annotated[int, typer.Argument(metavar="R", help="Rank r of the adapters.")],
    c: Annotated[float, typer.Option(help="Coefficient c of the law; lorate alpha calibrate fits it.")] = 256.0,
    rslora: Annotated[bool, typer.Option("--rslora", help="For a LoraConfig with use_rslora=True.")] = False,
) -> None:
    """Print lora_alpha = c·√r (with --rslora: c).

    Example: `lorate alpha law 16`
    """
    stdout.print(f"{lora_alpha(rank, c, rslora):.10g}")


@alpha.command()
def calibrate(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Hub id or directory. Default: a small model of lorate's own.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data, given as for lorate train.")] = None,
    task: Annotated[str, typer.Option(metavar="|".join(get_args(TaskKind)), help="Kind of model.")] = TrainConfig.task,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with further options of lorate train: targets, max_length, device, ..."),
    ] = None,
    ranks: Annotated[str, typer.Option(help="Ranks to try, two or more, separated by commas.")] = "4,8,16,32,64",
    alphas: Annotated[
        str, typer.Option(help="Values of lora_alpha to try, separated by commas.")
    ] = "32,128,512,2048,8192,32768",
    lr: Annotated[
        str, typer.Option(help="Learning rate of AdamW, or several separated by commas; each gets its own fit.")
    ] = "1e-4",
    steps: Annotated[int, typer.Option(help="Steps of a full run; every point gets a quarter of them first.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Samples per step.")] = 8,
    seeds: Annotated[int, typer.Option(help="Runs per point, each with its own seed.")] = 2,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small sweep on a small language model.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="Number of processes. Default: one per core; one on a GPU.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=directory,
            metavar="PATH",
            help="Directory to create or continue. Default: runs/alpha; with --quick, runs/alpha-quick.",
        ),
    ] = None,
) -> None:
    """Find the best lora_alpha of several ranks under AdamW, and the law through them.

    Every rank is tried with every alpha for a quarter of the steps, then the better half in full. Writes alpha.json, a
    heat map and one file per run. After Ctrl-C the same command continues; with more ranks or alphas it adds them.

    Examples:
    `lorate alpha calibrate --quick`

    `lorate alpha calibrate --model my-model --data chats.jsonl --ranks 8,16,32,64 --lr 2e-5 --steps 200`
    """
    silence_libraries()
    from lorate.calibration import QUICK, Sweep
    from lorate.calibration import calibrate as start
    from lorate.freed_memory import keep_freed_memory

    keep_freed_memory()

    own = options_from_file(config) | {
        name: value for name, value in (("model", model), ("data", data)) if value is not None
    }
    typed = {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}
    if task != TrainConfig.task or (own and "task" in typed):  # alone, the default means lorate's own small model
        own["task"] = task
    if quick and own:
        raise LorateError("--quick is for the small language model of lorate's own: leave out --model, --data.")
    grid: dict[str, Any] = {
        "own": own,
        "ranks": _numbers("--ranks", ranks, int),
        "alphas": _numbers("--alphas", alphas, float),
        "steps": steps,
        "batch_size": batch_size,
        "seeds": seeds,
    }
    if quick:
        grid |= {name: value for name, value in QUICK.items() if name not in typed}
    lrs = _numbers("--lr", lr, float)
    sweep = Sweep(lrs=lrs, seed=seed, **grid)
    place = output or Path("runs") / f"alpha{'-quick' if quick else ''}"
    command = "lorate " + shlex.join(context.obj)
    with interruptible(lambda: "finished runs are kept"), Progress(
        TextColumn("calibrating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[last]}"), console=stderr, transient=True, disable=not stderr.is_terminal,
    ) as bar:  # fmt: skip
        shown = bar.add_task("", total=None, last="")
        outcome = start(
            sweep,
            place,
            jobs=jobs,
            command=command,
            progress=lambda done, total, last: bar.update(shown, completed=done, total=total, last=last),
        )
    _print(outcome)


def _numbers(option: str, text: str, kind: type) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",") if word.strip()]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise LorateError(f"{option} must be {what} separated by commas, got {text!r}.") from None


def _print(outcome: Any) -> None:
    fit = outcome.fit
    table = Table("rank", "best lora_alpha", "held-out loss", "recommended", "from", "to")
    for rank, one in fit.best.items():
        shown = f"{one.alpha:.0f}{' (edge of the grid)' if one.at_edge else ''}"
        alpha, low, high = fit.recommended(rank)
        table.add_row(str(rank), shown, f"{one.loss:.4f}", f"{alpha:.0f}", f"{low:.0f}", f"{high:.0f}")
    stdout.print(table)
    if fit.interval is None:
        verdict = "two ranks alone give no interval"
    else:
        inside = "lies inside" if fit.contains_half else "lies outside"
        verdict = f"95% interval {fit.interval[0]:.2f} to {fit.interval[1]:.2f}, ½ {inside}"
    stdout.print(
        f"Exponent of the rank: {fit.exponent:.2f} ({verdict}).\n"
        f"Square-root law: lora_alpha = {fit.c:.0f}·√r ({fit.c_interval[0]:.0f} to {fit.c_interval[1]:.0f}), for AdamW "
        f"at lr {outcome.lr:g}.\n{escape(str(outcome.folder.inside('alpha.json')))} in {outcome.seconds:.0f} s",
        soft_wrap=True,
    )
