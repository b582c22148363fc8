"""What is run: points of rank, alpha and learning rate, and what is measured on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.alpha import network
from lorate_papers.experiments.alpha.drift_watch import DriftWatch
from lorate_papers.experiments.experiment import Options
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import train_model
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

LANGUAGE, NETWORK = "small-lm", "network"
AUTO = "auto"


@dataclass(frozen=True)
class Point:
    """One setting, run with one seed or several."""

    task: str
    rank: int
    alpha: float
    rule: str
    lr: float | None

    def run(self, seed: int, steps: int, batch: int, options: Options) -> Run:
        """The run of one seed."""
        lr = "" if self.lr is None else f"-lr-{self.lr:g}"
        name = f"{self.task}-{self.rule}{lr}-rank-{self.rank}-alpha-{self.alpha:g}-seed-{seed}"
        given: dict[str, Any] = {"task": self.task, "rank": self.rank, "alpha": self.alpha, "rule": self.rule}
        given |= {"lr": self.lr, "steps": steps, "batch": batch, "seed": seed}
        if self.task == LANGUAGE:
            given |= {"quick": options.quick, "data": options.data}
        return Run(name, train_and_watch, given)


class Size(NamedTuple):
    """How much is spent."""

    steps: int  # of a run on the language model
    seeds: int  # of its axes
    ranks: Sequence[int]  # of the sweep
    alphas: Sequence[float]  # of the sweep, evenly in the logarithm
    other_lrs: Sequence[float]  # factors on the learning rate at which the best alpha is looked for again
    axis_rank: int  # rank of the axes, of `other_lrs` and of ``auto``
    factors: Sequence[float]  # by which alpha, or the learning rate, is multiplied along the axes
    spread: Sequence[float]  # alphas of the comparison with ``auto``, a range of 64 around `AXIS_ALPHA`
    network_steps: int  # of a run on the network
    network_seeds: int  # of it
    network_lrs: Sequence[float]  # learning rates of AdamW from which its axes start
    network_factors: Sequence[float]  # along them
    sgd_factors: Sequence[float]  # for alpha along SGD's axis; the learning rate is multiplied by their squares


FULL = Size(
    steps=100,
    seeds=2,
    ranks=(1, 2, 4, 8, 16, 32, 64),
    alphas=(512, 1024, 2048, 4096, 8192, 16384),
    other_lrs=(0.25, 4),
    axis_rank=8,
    factors=(1, 8, 32, 64, 128, 256, 512),
    spread=(2, 8, 32, 128),
    network_steps=200,
    network_seeds=3,
    network_lrs=(1e-4, 2e-4, 4e-4, 8e-4),
    network_factors=(1, 16, 32, 64, 128, 256, 512, 1024),
    sgd_factors=(1, 2, 4, 8, 16),
)
QUICK = Size(
    steps=40,
    seeds=1,
    ranks=(1, 4, 16, 64),
    alphas=(256, 1024, 4096, 16384),
    other_lrs=(),
    axis_rank=4,
    factors=(1, 16, 64, 256),
    spread=(2, 16, 128),
    network_steps=100,
    network_seeds=1,
    network_lrs=(4e-4,),
    network_factors=(1, 32, 128, 256, 512),
    sgd_factors=(1, 2, 4, 8),
)
LR, BATCH = 1e-4, 8
"""Of the language model under AdamW, if nothing else is said."""
AXIS_ALPHA = 16.0
"""Where the axes of the language model start: twice the rank of the full form, a usual choice."""
TUNED_LR = 3e-3
"""Of AdamW in the comparison with ``auto``: about the best at `AXIS_ALPHA`, the middle of the range."""
NETWORK_RANK, NETWORK_ALPHA, NETWORK_BATCH = 8, 8.0, 64
SGD_LR = 0.1


def size(options: Options) -> Size:
    """The size of the full or the quick form."""
    return QUICK if options.quick else FULL


def sweep_points(how: Size) -> list[Point]:
    """Rank against alpha."""
    return [Point(LANGUAGE, rank, alpha, "adamw", LR) for rank in how.ranks for alpha in how.alphas]


def other_lr_points(how: Size) -> list[Point]:
    """Every second alpha at other learning rates, shifted so that the product of the two stays where it is."""
    return [
        Point(LANGUAGE, how.axis_rank, alpha / factor, "adamw", LR * factor)
        for factor in how.other_lrs
        for alpha in how.alphas[::2]
    ]


def axis(how: Size, over: str) -> list[Point]:
    """The language model with alpha, or the learning rate, multiplied by each factor."""
    return [
        Point(
            LANGUAGE,
            how.axis_rank,
            AXIS_ALPHA * (factor if over == "alpha" else 1),
            "adamw",
            LR * (factor if over == "lr" else 1),
        )
        for factor in how.factors
    ]


def spread_points(how: Size, rule: str) -> list[Point]:
    """The range of 64 in alpha, under AdamW at one learning rate or under ``auto``."""
    lr = TUNED_LR if rule == "adamw" else None
    return [Point(LANGUAGE, how.axis_rank, alpha, rule, lr) for alpha in how.spread]


def network_axis(how: Size, rule: str, start: float, over: str) -> list[Point]:
    """The network with alpha, or the learning rate so that the first step is as long, multiplied."""
    factors = how.sgd_factors if rule == "sgd" else how.network_factors
    power = 2 if rule == "sgd" else 1
    return [
        Point(
            NETWORK,
            NETWORK_RANK,
            NETWORK_ALPHA * (factor if over == "alpha" else 1),
            rule,
            start * (factor**power if over == "lr" else 1),
        )
        for factor in factors
    ]


def runs(options: Options) -> list[Run]:
    """Every run once, the slow ones first."""
    how = size(options)
    runs: dict[str, Run] = {}

    def add(points: Sequence[Point], seeds: int, steps: int, batch: int) -> None:
        for point in points:
            for seed in options.seeds(seeds):
                run = point.run(seed, steps, batch, options)
                runs.setdefault(run.name, run)

    add(sorted(sweep_points(how), key=lambda point: -point.rank), 1, how.steps, BATCH)
    for points in (spread_points(how, AUTO), spread_points(how, "adamw"), axis(how, "alpha"), axis(how, "lr")):
        add(points, how.seeds, how.steps, BATCH)
    add(other_lr_points(how), 1, how.steps, BATCH)
    for points in network_axes(how):
        add(points, how.network_seeds, how.network_steps, NETWORK_BATCH)
    return list(runs.values())


def network_axes(how: Size) -> Iterator[list[Point]]:
    """All axes of the network."""
    for over in ("lr", "alpha"):
        yield network_axis(how, "sgd", SGD_LR, over)
        for start in how.network_lrs:
            yield network_axis(how, "adamw", start, over)


def train_and_watch(
    task: str,  # ``"network"`` (whose weights are drawn from the seed too) or the name of a workload
    rank: int,  # r
    alpha: float,  # ``lora_alpha``
    rule: str,  # a rule or a baseline
    lr: float | None,  # its constant
    steps: int,  # at most
    batch: int,  # examples a step
    seed: int,  # of the adapters' start and the order of the data
    quick: bool = False,  # the small form of the workload
    data: str | None = None,  # other data for it
) -> dict[str, Any]:
    """Train adapters of one rank and alpha.

    Returns:
        The point (``task``, ``rank``, ``alpha``, ``rule``, ``lr``, ``seed``); ``loss``: held out, at the end, None if
        the run diverged; ``first_loss`` of the first batch; ``diverged``; and what `DriftWatch.values` returns.
    """
    workload = network.load(seed) if task == "network" else _workload(task, quick, data)
    model = workload.model(AdapterSpec(rank, alpha), seed)
    watch = DriftWatch(model)
    seen = train_model(workload, model, Recipe(rule, lr, steps, batch, seed), after_step=watch)
    point = {"task": task, "rank": rank, "alpha": alpha, "rule": rule, "lr": lr, "seed": seed}
    outcome = {"loss": seen["final_validation"], "first_loss": seen["first_loss"], "diverged": seen["diverged"]}
    return point | outcome | watch.values()


@cache
def _workload(name: str, quick: bool, data: str | None) -> Workload:
    """Loading takes as long as some ten steps, and a process has many runs."""
    return load_workload(name, quick=quick, data=data)
