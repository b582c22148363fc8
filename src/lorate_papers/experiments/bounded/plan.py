"""What is run: adapters that are free, projected onto a ball, or shrunk by weight decay."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

import torch

from lorate.adapters import find_pairs
from lorate.descent import bounded_rate_bound
from lorate.geometry import squared_norms
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.training.measures import column
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model
from lorate_papers.training.tuning import choose, constants
from lorate_papers.workloads import AdapterSpec, load_workload

TASKS = {"logistic": "logistic regression", "matrix": "least squares"}
"""The workloads and what they are called in the report; both have a known L."""
CONTROLS = {"free": "free", "projection": "‖V‖ capped", "decay": "weight decay"}
CONTROLLED = ("theory", "sharp", "adaptive-loss")
"""Rules whose step size shrinks as the adapters grow."""
RULES = (*CONTROLLED, "constant")
GRIDS = {"adaptive-loss": (1.0, 100.0), "constant": (0.03, 3.0)}
"""First and last constant of each grid."""
RANK = 4
DECAY = 0.01
r"""$\lambda$ of the penalty $\tfrac\lambda2\|V\|^2$."""


CAPS = (0.25, 0.5, 0.75, 1.0)
"""Caps on the norm, as shares of the one at which the free run of rule sharp ends."""


class Size(NamedTuple):
    """How much is run."""

    steps: dict[str, int]  # of full-batch descent, on each task
    seeds: int  # starts
    points: int  # constants in a grid
    survival: tuple[int, int]  # constants tried without control, and the steps they are given


FULL = Size({"logistic": 2000, "matrix": 1000}, 3, 5, (7, 500))
QUICK = Size({"logistic": 150, "matrix": 120}, 3, 3, (5, 100))


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """Constants to choose from; none for a rule that has nothing to choose."""
    return constants(*GRIDS[rule], size(options).points) if rule in GRIDS else ()


def survival_grid(options: Options) -> tuple[float, ...]:
    """Constant rates from a good one to one that is far too large."""
    return constants(0.03, 30.0, size(options).survival[0])


Control = Literal["free", "projection", "decay"]


class Bounding:
    r"""Holds the adapters after each step, and measures how stationary the point was for the held problem.

    ``projection`` scales all adapters back to $\|V\| \le C$. ``decay`` takes $\eta\lambda V$ off, the step of
    $\tfrac\lambda2\|V\|^2$. What measures stationarity is the gradient mapping $\|V_t - V_{t+1}\|/\eta_t$: of the free
    problem it is $\|\nabla J\|$, of the others it vanishes where they are stationary, which $\nabla J$ need not.

    Args:
        model: with adapters of scaling 1.
        control: what is done.
        value: C or $\lambda$; not used if free.

    Attributes:
        mapping_sq: $\|V_t - V_{t+1}\|^2/\eta_t^2$ of every step so far that was taken.
    """

    def __init__(self, model: torch.nn.Module, control: Control, value: float) -> None:
        self._factors: list[torch.Tensor] = [factor for pair in find_pairs(model) for factor in (pair.A, pair.B)]
        self._control, self._value = control, value
        self._before = self._copies()
        self._optimizer: Any = None
        self.mapping_sq: list[float] = []

    def watch(self, optimizer: Any) -> None:
        """Called before the first step with the optimizer, which knows the step sizes."""
        self._optimizer = optimizer

    @torch.no_grad()
    def hold(self) -> None:
        """Called after every step."""
        eta = self._optimizer.last.eta
        if self._control == "decay":
            torch._foreach_add_(self._factors, self._before, alpha=-eta * self._value)
        elif self._control == "projection":
            length = math.sqrt(self._square(self._factors))
            if length > self._value:
                torch._foreach_mul_(self._factors, self._value / length)
        moved = self._square([now - before for now, before in zip(self._factors, self._before, strict=True)])
        self.mapping_sq.append(moved / eta**2 if eta else 0.0)
        self._before = self._copies()

    def _copies(self) -> list[torch.Tensor]:
        return [factor.detach().clone() for factor in self._factors]

    @staticmethod
    def _square(tensors: Sequence[torch.Tensor]) -> float:
        return float(squared_norms([tensor.detach() for tensor in tensors]).sum())


def held_run(
    workload: str, rule: str, lr: float | None, control: Control, value: float, steps: int, seed: int, quick: bool
) -> Values:
    """One run; the trace has the gradient mapping as a further column, ``mapping_sq``."""
    task = load_workload(workload, quick=quick)
    model = task.model(AdapterSpec(rank=RANK, alpha=RANK), seed)
    bounding = Bounding(model, control, value)
    recipe = Recipe(rule, lr, steps, None, seed)
    run = train_model(task, model, recipe, on_start=bounding.watch, after_step=bounding.hold)
    measured = [*bounding.mapping_sq, math.nan]  # the step after which a run ends is not held
    run["trace"]["mapping_sq"] = [measured[min(int(step), len(measured)) - 1] for step in column(run, "step")]
    return {**run, "control": control, "value": value}


def compared(
    workload: str, rule: str, grid: Sequence[float], decay: float, steps: int, seeds: Sequence[int], quick: bool
) -> Values:
    r"""The same descent free, capped at the norm half-way between start and end of the free one, and with weight decay.

    A constant is the best one of the free problem after a tenth of the steps with which no seed diverges later. With
    the paper's proved step size also its bound for a run in which $\|V_t\| \le C$.
    """

    def run(lr: float | None, seed: int, control: Control = "free", value: float = 0.0, length: int = steps) -> Values:
        return held_run(workload, rule, lr, control, value, length, seed, quick)

    if grid:
        best = choose(grid, seeds, lambda lr: run(lr, seeds[0], length=steps // 10), run)
        lr, free = best.lr, best.runs
    else:
        lr, free = None, [run(None, seed) for seed in seeds]
    caps = [_halfway(one) for one in free]
    by_control: dict[str, Any] = {
        "free": free,
        "projection": [run(lr, seed, "projection", cap) for seed, cap in zip(seeds, caps, strict=True)],
        "decay": [run(lr, seed, "decay", decay) for seed in seeds],
    }
    if rule == "theory":
        smoothness = getattr(load_workload(workload, quick=quick), "smoothness", math.nan)
        for one in (one for runs in by_control.values() for one in runs):
            largest = math.sqrt(max(one["trace"]["stacked_sq"]))
            one["bounded_bound"] = bounded_rate_bound(
                one["first_loss"], largest, smoothness, column(one, "step")
            ).tolist()
    return {"best": lr, **by_control}


def survivors(workload: str, lrs: Sequence[float], decay: float, steps: int, seed: int, quick: bool) -> Values:
    """How a constant rate fares on a grid when the adapters are free, projected or shrunk.

    The cap is half-way between the norms at which a free run of rule sharp starts and ends.
    """
    sharp = held_run(workload, "sharp", None, "free", 0.0, steps, seed, quick)
    cap = _halfway(sharp)
    rows = []
    limits: dict[Control, float] = {"free": 0.0, "projection": cap, "decay": decay}
    for control, value in limits.items():
        for lr in lrs:
            run = held_run(workload, "constant", lr, control, value, steps, seed, quick)
            rows.append(
                {name: run[name] for name in ("lr", "control", "first_loss", "final_loss", "diverged", "steps")}
            )
    return {"cap": cap, "rows": rows}


def capped(workload: str, shares: Sequence[float], steps: int, seeds: Sequence[int], quick: bool) -> Values:
    """Final loss of rule sharp under caps from tight to loose, one value a start; None where a run diverged."""
    free = [held_run(workload, "sharp", None, "free", 0.0, steps, seed, quick) for seed in seeds]
    ends = [math.sqrt(one["trace"]["stacked_sq"][-1]) for one in free]
    starts = [math.sqrt(one["trace"]["stacked_sq"][0]) for one in free]
    losses = {
        f"{share:g}": [
            held_run(workload, "sharp", None, "projection", share * end, steps, seed, quick)["final_loss"]
            for end, seed in zip(ends, seeds, strict=True)
        ]
        for share in shares
    }
    return {"free": [one["final_loss"] for one in free], "start": fmean(starts) / fmean(ends), **losses}


def _halfway(run: Mapping[str, Any]) -> float:
    first, last = (math.sqrt(run["trace"]["stacked_sq"][place]) for place in (0, -1))
    return (first + last) / 2


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    runs = []
    for task in TASKS:
        for rule in RULES:
            common: dict[str, Any] = {"workload": task, "decay": DECAY, "quick": options.quick}
            given = {**common, "rule": rule, "grid": grid(rule, options), "steps": size(options).steps[task]}
            runs.append(Run(f"compared-{task}-{rule}", compared, {**given, "seeds": seeds(options)}))
        given = {**common, "lrs": survival_grid(options), "steps": size(options).survival[1]}
        runs.append(Run(f"survivors-{task}", survivors, {**given, "seed": seeds(options)[0]}))
        given = {"workload": task, "shares": CAPS, "steps": size(options).survival[1], "quick": options.quick}
        runs.append(Run(f"caps-{task}", capped, {**given, "seeds": seeds(options)}))
    return runs
