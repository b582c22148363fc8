"""``lorate attention``: predict, simulate and compare the solvable attention model."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.errors import LorateError
from lorate.runs.strict_json import encode

attention = typer.Typer(
    help="Test error and alignment of a rank-one adapter on a pre-trained attention map: theory and simulation.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Attention(StrEnum):
    """The attention functions."""

    linear = "linear"
    softmax = "softmax"


Alpha = Annotated[float, typer.Option(help="Pre-training sequences over the squared dimension, α = N/D².")]
Lambda = Annotated[float, typer.Option("--lambda", help="Weight decay λ of pre-training.")]
Tokens = Annotated[int, typer.Option(help="Tokens T of a sequence.")]
Kappa0 = Annotated[float, typer.Option("--kappa0", help="Width of the teacher over the dimension.")]
Kappa = Annotated[float, typer.Option(help="Width of the student over the dimension.")]
Noise = Annotated[float, typer.Option(help="Variance Δ of the label noise.")]
Kind = Annotated[Attention, typer.Option("--attention", help="The attention function.")]
FinetuneAlpha = Annotated[
    float | None,
    typer.Option(help="Fine-tuning sequences over the dimension, α′ = N′/D; pre-training alone if absent."),
]
FinetuneLambda = Annotated[float | None, typer.Option("--finetune-lambda", help="Weight decay λ′ of the adapter.")]
Reused = Annotated[bool, typer.Option("--reused", help="Fine-tune on sequences of pre-training.")]
FreshNoise = Annotated[bool, typer.Option("--fresh-noise", help="With --reused: new label noise.")]
Beta = Annotated[str, typer.Option(help="Recalibration of the frozen map: a number, or optimal.")]
Fraction = Annotated[float | None, typer.Option(help="Choose this share of a pool of sequences actively.")]
Uncentred = Annotated[bool, typer.Option("--uncentred", help="Do not subtract the adapter's own mean.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Dimension = Annotated[int, typer.Option(help="Dimension D of the simulation.")]
Seeds = Annotated[int, typer.Option(help="How many random instances.")]
Seed = Annotated[int, typer.Option(help="The first seed.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps.")]

NAMES = {
    "Q": ("Q", "squared norm of the learned map"),
    "M": ("M", "its product with the teacher's"),
    "Q0": ("Q0", "squared norm of the teacher's map, as drawn"),
    "V": ("V", "response of the fit"),
    "tau": ("tau", "noise on the spectrum"),
    "Lambda": ("Lambda", "where the spectrum is cut"),
    "active": ("active", "share of the directions that are learned"),
    "Delta_eff": ("Delta_eff", "effective noise, fresh sequences"),
    "Delta_eff_reused": ("Delta_eff^(1)", "effective noise, reused sequences"),
    "Delta_eff_beta": ("Delta_eff(beta*)", "effective noise, fresh sequences, best recalibration"),
    "E_pretrained": ("E_exc", "test error of the pre-trained map, noise-free labels"),
    "train_loss": ("L/N", "training loss of a sequence"),
    "Delta_seen": ("Delta_seen", "effective noise of this fine-tuning"),
    "q": ("q", "squared norm of the adapter"),
    "m": ("m", "its product with the teacher's"),
    "v": ("v", "response of the adapter"),
    "overlap": ("o_w", "cosine between the adapter and its teacher"),
    "lambda_eff": ("lambda'_eff", "weight decay after centring"),
    "AT": ("AT", "stability, below 1 where the theory holds"),
    "jumps": ("jumps", "share of sequences next to a tie"),
    "E_finetuned": ("E'", "test error after fine-tuning, noise-free labels"),
}
"""Keys of a row: symbol and meaning, in the order in which they are printed."""


@attention.command()
def predict(
    alpha: Alpha,
    lam: Lambda,
    tokens: Tokens = 3,
    kappa0: Kappa0 = 1.0,
    kappa: Kappa = 1.0,
    noise: Noise = 0.5,
    kind: Kind = Attention.linear,
    finetune_alpha: FinetuneAlpha = None,
    finetune_lam: FinetuneLambda = None,
    reused: Reused = False,
    fresh_noise: FreshNoise = False,
    beta: Beta = "1",
    fraction: Fraction = None,
    uncentred: Uncentred = False,
    points: Annotated[int | None, typer.Option(help="Quasi-random points, a power of two.")] = None,
    as_json: AsJson = False,
) -> None:
    """What the theory says in high dimension: order parameters, effective noise, overlap, test error.

    Examples:
    `lorate attention predict --alpha 0.1 --lambda 0.01`

    `lorate attention predict --alpha 0.1 --lambda 0.01 --finetune-alpha 3 --finetune-lambda 0.5 --reused`

    `lorate attention predict --alpha 0.3 --lambda 0.03 --tokens 2 --attention softmax --json`
    """
    from lorate_papers.attention import predict as solve

    arguments = _arguments(locals())
    with _numerical_trouble(), stderr.status("solving"):
        prediction = solve(**arguments, points=points)
    row = prediction.row()
    if as_json:
        print(encode(row, indent=2))
        return
    table = Table("", "value", "", title=_title(arguments))
    for key, (symbol, meaning) in NAMES.items():
        if key in row:
            table.add_row(symbol, _number(float(row[key])), f"[dim]{meaning}[/]")
    stdout.print(table)


@attention.command()
def simulate(
    alpha: Alpha,
    lam: Lambda,
    tokens: Tokens = 3,
    kappa0: Kappa0 = 1.0,
    kappa: Kappa = 1.0,
    noise: Noise = 0.5,
    kind: Kind = Attention.linear,
    finetune_alpha: FinetuneAlpha = None,
    finetune_lam: FinetuneLambda = None,
    reused: Reused = False,
    fresh_noise: FreshNoise = False,
    beta: Beta = "1",
    fraction: Fraction = None,
    uncentred: Uncentred = False,
    dimension: Dimension = 60,
    seeds: Seeds = 4,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train both stages on random data of a finite dimension, and measure.

    Example:
    `lorate attention simulate --alpha 0.1 --lambda 0.1 --finetune-alpha 3 --finetune-lambda 0.5 --dimension 100`
    """
    arguments = _arguments(locals())
    shown = f"training {seeds} instances of dimension {dimension}"
    with _numerical_trouble(), stderr.status(shown):
        measured = _simulate(arguments, dimension, seeds, seed, device)
    if as_json:
        print(encode(measured.values, indent=2))
        return
    table = Table("", "mean", "standard error", "", title=f"{_title(arguments)}\nD = {dimension}, {seeds} seeds")
    for key, (symbol, meaning) in NAMES.items():
        if key in measured.values:
            error = _number(measured.standard_error(key)) if seeds > 1 else "–"
            table.add_row(symbol, _number(measured.mean(key)), error, f"[dim]{meaning}[/]")
    stdout.print(table)


@attention.command()
def compare(
    alpha: Alpha,
    lam: Lambda,
    tokens: Tokens = 3,
    kappa0: Kappa0 = 1.0,
    kappa: Kappa = 1.0,
    noise: Noise = 0.5,
    kind: Kind = Attention.linear,
    finetune_alpha: FinetuneAlpha = None,
    finetune_lam: FinetuneLambda = None,
    reused: Reused = False,
    fresh_noise: FreshNoise = False,
    beta: Beta = "1",
    fraction: Fraction = None,
    uncentred: Uncentred = False,
    dimension: Dimension = 60,
    seeds: Seeds = 4,
    seed: Seed = 0,
    device: Device = "cpu",
    over: Annotated[
        str | None, typer.Option(help="Draw a curve over alpha, lambda, finetune-alpha or finetune-lambda.")
    ] = None,
    values: Annotated[str | None, typer.Option(help="Where to simulate on the curve, such as 0.5,1,2,4.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to make, for the figure and all numbers.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Theory and simulation side by side, at one point or along a curve.

    A curve is drawn into --output: the theory as a line, the simulated points with their standard errors.

    Examples:
    `lorate attention compare --alpha 0.1 --lambda 0.1 --dimension 100`

    `lorate attention compare --alpha 0.1 --lambda 0.1 --finetune-alpha 1 --finetune-lambda 0.5
    --over finetune-alpha --values 0.5,1,2,4 -o runs/curve`
    """
    from lorate.runs import RunDirectory
    from lorate.tasks.device import check_device
    from lorate_papers.cli.attention_curve import VARIED, compare_along, read_values, write_comparison

    arguments = _arguments(locals())
    grid = read_values(over, values, arguments)
    check_device(device)
    if output is not None:
        RunDirectory.check_free(output)
    with _numerical_trouble():
        comparison = compare_along(grid, arguments, dimension, range(seed, seed + _at_least_one(seeds)), device)
    if output is not None:
        write_comparison(RunDirectory.create(output), comparison)
    if as_json:
        print(encode(comparison.rows, indent=2))
    else:
        _print_comparison(comparison.rows, _title(arguments, VARIED.get(over or "")), dimension, seeds)
    if output is not None:
        stderr.print(f"Written to {escape(str(output))}", soft_wrap=True)


def _simulate(arguments: Mapping[str, Any], dimension: int, seeds: int, first: int, device: str) -> Any:
    from lorate.tasks.device import check_device
    from lorate_papers.attention.simulation import simulate as run

    check_device(device)
    return run(**arguments, dimension=dimension, seeds=range(first, first + _at_least_one(seeds)), device=device)


def _at_least_one(seeds: int) -> int:
    if seeds < 1:
        raise LorateError(f"--seeds must be at least 1, got {seeds}.")
    return seeds


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that prediction and simulation share, from the local variables of a command."""
    same = "alpha lam tokens kappa0 kappa noise finetune_alpha finetune_lam reused fresh_noise fraction"
    arguments = {name: given[name] for name in same.split()}
    arguments |= {"attention": given["kind"].value, "centred": not given["uncentred"]}
    if (given["finetune_alpha"] is None) != (given["finetune_lam"] is None):
        raise LorateError("--finetune-alpha and --finetune-lambda belong together: give both or neither.")
    try:
        arguments["beta"] = "optimal" if given["beta"] == "optimal" else float(given["beta"])
    except ValueError:
        raise LorateError(f"--beta must be a number or optimal, got {given['beta']!r}.") from None
    return arguments


@contextmanager
def _numerical_trouble() -> Iterator[None]:
    """Show broken replica symmetry as a warning; no convergence ends the command with exit code 1."""
    from lorate_papers.attention import NotConverged, ReplicaInstabilityWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("always", ReplicaInstabilityWarning)
        try:
            yield
        except NotConverged as failure:
            stderr.print(f"[bold red]lorate:[/] the equations were not solved: {escape(str(failure))}", soft_wrap=True)
            raise typer.Exit(1) from None
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        stderr.print(f"[bold yellow]Warning:[/] {escape(text)}", soft_wrap=True)


def _print_comparison(rows: list[dict[str, Any]], title: str, dimension: int, seeds: int) -> None:
    varied = rows[0]["over"] if rows else None
    columns = ([] if varied is None else [varied]) + ["", "theory", "simulated", "standard error", "difference"]
    table = Table(*columns, title=f"{title}\nD = {dimension}, {seeds} seeds")
    for row in rows:
        cells = [NAMES[row["name"]][0], _number(row["theory"]), _number(row["mean"])]
        cells += ["–" if row["standard_error"] is None else _number(row["standard_error"])]
        cells += [f"{row['mean'] - row['theory']:+.4f}"]
        table.add_row(*([] if varied is None else [f"{row['at']:g}"]), *cells)
    stdout.print(table)


def _title(arguments: Mapping[str, Any], varied: str | None = None) -> str:
    words = {"alpha": "α", "lam": "λ", "tokens": "T", "kappa0": "κ0", "kappa": "κ", "noise": "Δ"}
    words |= {"finetune_alpha": "α′", "finetune_lam": "λ′", "fraction": "ρ", "beta": "β"}
    shown = [name for name in words if arguments[name] is not None and name != varied]
    known = [f"{words[name]} = {_plain(arguments[name])}" for name in shown]
    flags = [name.replace("_", " ") for name in ("reused", "fresh_noise") if arguments[name]]
    return ", ".join([f"{arguments['attention']} attention", *known, *flags])


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _number(value: float) -> str:
    """Six decimals, or two significant digits of what is smaller than they can show."""
    return f"{value:.6f}" if value == 0 or abs(value) >= 1e-4 or value != value else f"{value:.1e}"
