"""``lorate attention``: predict, simulate and compare the solvable attention model."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lorate.cli.console import stderr, stdout
from lorate.errors import LorateError
from lorate.runs.strict_json import encode
from lorate_papers.cli.options import with_options

attention = typer.Typer(
    help="Test error and alignment of a rank-one adapter on a pre-trained attention map: theory and simulation.",
    epilog="Example: `lorate attention predict --alpha 0.1 --lambda 0.01`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Attention(StrEnum):
    """The attention functions."""

    linear = "linear"
    softmax = "softmax"


@dataclass(frozen=True)
class Stages:
    """Pre-training and fine-tuning, as prediction and simulation take them."""

    alpha: Annotated[
        float, typer.Option(help="Number of pre-training sequences divided by the squared dimension, α = N/D².")
    ]
    lam: Annotated[float, typer.Option("--lambda", help="Weight decay λ of pre-training.")]
    tokens: Annotated[int, typer.Option(help="Tokens T per sequence.")] = 3
    kappa0: Annotated[float, typer.Option("--kappa0", help="Width of the teacher divided by the dimension.")] = 1.0
    kappa: Annotated[float, typer.Option(help="Width of the student divided by the dimension.")] = 1.0
    noise: Annotated[float, typer.Option(help="Variance Δ of the label noise.")] = 0.5
    attention: Annotated[Attention, typer.Option(help="The attention function.")] = Attention.linear
    finetune_alpha: Annotated[
        float | None,
        typer.Option(help="Fine-tuning sequences divided by the dimension, α′ = N′/D. Default: pre-training alone."),
    ] = None
    finetune_lam: Annotated[float | None, typer.Option("--finetune-lambda", help="Weight decay λ′ of the adapter.")] = (
        None
    )
    reused: Annotated[bool, typer.Option("--reused", help="Fine-tune on sequences that pre-training has seen.")] = False
    fresh_noise: Annotated[bool, typer.Option("--fresh-noise", help="With --reused: new label noise.")] = False
    beta: Annotated[str, typer.Option(help="Recalibration of the frozen map: a number, or optimal.")] = "1"
    fraction: Annotated[
        float | None,
        typer.Option(help="Active learning: fine-tune on this share ρ of a pool, chosen by the pre-trained map."),
    ] = None
    uncentred: Annotated[bool, typer.Option("--uncentred", help="Do not subtract the adapter's own mean.")] = False

    def arguments(self) -> dict[str, Any]:
        """Arguments of `lorate_papers.attention.predict` and `simulate`.

        Raises:
            LorateError: half of fine-tuning is missing, or beta is neither a number nor optimal.
        """
        given = asdict(self) | {"attention": self.attention.value, "centred": not self.uncentred}
        del given["uncentred"]
        if (self.finetune_alpha is None) != (self.finetune_lam is None):
            raise LorateError("--finetune-alpha and --finetune-lambda belong together: give both or neither.")
        try:
            given["beta"] = "optimal" if self.beta == "optimal" else float(self.beta)
        except ValueError:
            raise LorateError(f"--beta must be a number or optimal, got {self.beta!r}.") from None
        return given


@dataclass(frozen=True)
class Instances:
    """Random instances of a simulation."""

    dimension: Annotated[int, typer.Option(help="Dimension D of the simulation.")] = 60
    seeds: Annotated[int, typer.Option(help="Number of random instances.")] = 4
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0
    device: Annotated[str, typer.Option(help="cpu, cuda, mps.")] = "cpu"

    def arguments(self) -> dict[str, Any]:
        """Arguments of `lorate_papers.attention.simulation.simulate`.

        Raises:
            LorateError: no seed, or a device that this machine has not.
        """
        from lorate.tasks.device import check_device

        if self.seeds < 1:
            raise LorateError(f"--seeds must be at least 1, got {self.seeds}.")
        check_device(self.device)
        seeds = range(self.seed, self.seed + self.seeds)
        return {"dimension": self.dimension, "seeds": seeds, "device": self.device}


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

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
@with_options(Stages)
def predict(
    stages: Stages,
    points: Annotated[
        int | None,
        typer.Option(help="Number of quasi-random points, a power of two. Default: 8192 (linear) or 4096 (softmax)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the theory says in high dimension: order parameters, effective noise, overlap, test error.

    Examples:
    `lorate attention predict --alpha 0.1 --lambda 0.01`

    `lorate attention predict --alpha 0.1 --lambda 0.01 --finetune-alpha 3 --finetune-lambda 0.5 --reused`

    `lorate attention predict --alpha 0.3 --lambda 0.03 --tokens 2 --attention softmax --json`
    """
    from lorate_papers.attention import predict as solve

    arguments = stages.arguments()
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
@with_options(Stages, Instances)
def simulate(stages: Stages, instances: Instances, as_json: AsJson = False) -> None:
    """Train both stages on random data of a finite dimension, and measure.

    Example:
    `lorate attention simulate --alpha 0.1 --lambda 0.1 --finetune-alpha 3 --finetune-lambda 0.5 --dimension 100`
    """
    from lorate_papers.attention.simulation import simulate as run

    arguments, size = stages.arguments(), instances.arguments()
    with _numerical_trouble(), stderr.status(f"training {_words(instances)}"):
        measured = run(**arguments, **size)
    if as_json:
        print(encode(measured.values, indent=2))
        return
    table = Table("", "mean", "standard error", "", title=f"{_title(arguments)}\n{_words(instances)}")
    for key, (symbol, meaning) in NAMES.items():
        if key in measured.values:
            error = _number(measured.standard_error(key)) if instances.seeds > 1 else "–"
            table.add_row(symbol, _number(measured.mean(key)), error, f"[dim]{meaning}[/]")
    stdout.print(table)


@attention.command()
@with_options(Stages, Instances)
def compare(
    stages: Stages,
    instances: Instances,
    over: Annotated[
        str | None, typer.Option(help="Vary this along a curve: alpha, lambda, finetune-alpha or finetune-lambda.")
    ] = None,
    values: Annotated[str | None, typer.Option(help="Where to simulate on the curve, such as 0.5,1,2,4.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to create, for the figure and all numbers.")
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
    from lorate_papers.cli.attention_curve import VARIED, compare_along, read_values, write_comparison

    arguments = stages.arguments()
    grid, size = read_values(over, values, arguments), instances.arguments()
    if output is not None:
        RunDirectory.check_free(output)
    with _numerical_trouble():
        comparison = compare_along(grid, arguments, **size)
    if output is not None:
        write_comparison(RunDirectory.create(output), comparison)
    if as_json:
        print(encode(comparison.rows, indent=2))
    else:
        _print_comparison(comparison.rows, f"{_title(arguments, VARIED.get(over or ''))}\n{_words(instances)}")
    if output is not None:
        stderr.print(f"Written to {escape(str(output))}", soft_wrap=True)


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


def _words(instances: Instances) -> str:
    return f"{instances.seeds} instances of dimension {instances.dimension}"


def _print_comparison(rows: list[dict[str, Any]], title: str) -> None:
    varied = rows[0]["over"] if rows else None
    columns = ([] if varied is None else [varied]) + ["", "theory", "simulated", "standard error", "difference"]
    table = Table(*columns, title=title)
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
