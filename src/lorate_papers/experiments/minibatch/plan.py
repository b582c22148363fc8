"""What is run: rules with a proof on mini-batches, and those without, each at its best constant of a grid."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lorate.adapters import find_pairs
from lorate.descent import mean_square_bound, relative_smoothness
from lorate.errors import LorateError
from lorate.optim import create_optimizer
from lorate.rules import RULES as CLASSES
from lorate.rules import Rule
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.training.training_run import Values
from lorate_papers.training.tuning import choose, constants
from lorate_papers.workloads import AdapterSpec, load_workload
from lorate_papers.workloads.tensor_workload import TensorWorkload, evaluating, examples, select

TASKS = {"logistic": "logistic regression", "matrix": "least squares"}
"""The workloads and what they are called in the report; both have a known L."""
PROVED = ("relative", "relative-adagrad", "alternate")
TUNED = ("constant", "sharp", *PROVED)
LABELS = {"constant": "SGD", "relative-adagrad": "relative, AdaGrad-norm"}
"""Rules that the report calls by another name."""
DECAYING = ("constant", "sharp", "relative", "alternate")
"""Their constant falls to 0 in a straight line."""
GRIDS = {
    "logistic": {
        "constant": (0.1, 1.0),
        "sharp": (10.0, 1000.0),
        "relative": (1.0, 100.0),
        "relative-adagrad": (10.0, 1000.0),
        "alternate": (1.0, 1000.0),
    },
    "matrix": {
        "constant": (0.01, 1.0),
        "sharp": (0.1, 10.0),
        "relative": (0.01, 1.0),
        "relative-adagrad": (1.0, 100.0),
        "alternate": (0.1, 10.0),
    },
}
"""First and last constant of each grid; for ``sharp`` and ``alternate`` in units of what L alone would give."""
CARRIED = ("constant", "sharp", "relative", "alternate")
SCALING, CARRIED_BATCH = 8.0, 8
FACTORS = (1 / 64, 1 / 8, 1.0, 8.0)
"""On the constant tuned at s = 1, when it is used at the other scaling."""
RANK = 4


class Size(NamedTuple):
    """How much is run."""

    steps: int
    batches: tuple[int, ...]  # examples a step
    seeds: int  # one to tune on and the others
    points: int  # constants in a grid


FULL = Size(300, (4, 8, 32), 4, 5)
QUICK = Size(40, (8, 32), 3, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def label(rule: str) -> str:
    """What the report calls a rule."""
    return LABELS.get(rule, rule)


def train(
    workload: str, rule: str, lr: float | None, batch: int, steps: int, seed: int, scaling: float, quick: bool,
    *, measured: bool = False,
) -> Values:  # fmt: skip
    r"""One run on batches that are drawn afresh, with replacement, as the theorems assume.

    Returns:
        ``lr``, ``seed``; ``first_loss`` and ``final_loss`` over the whole training set, the latter None if the run
        diverged: numbers left their range, or the loss ended above the first one. If ``measured`` also
        ``relative_sq``: the mean over the steps of $\tfrac12(\|g_B\|^2/\|A\|_2^2 + \|g_A\|^2/\|B\|_2^2)$ of the whole
        training set, for ``alternate``, or of $\|g\|^2/(\|A\|_2^2 + \|B\|_2^2 + c)$.
    """
    task = _task(workload, quick)
    model = task.model(AdapterSpec(rank=RANK, alpha=RANK * scaling), seed)
    smoothness = task.smoothness
    own: Rule | str = rule
    if rule == "alternate":
        own = CLASSES[rule](smoothness=smoothness, seed=seed)  # type: ignore[call-arg]
    elif rule == "relative-adagrad":
        own = CLASSES["relative"](adagrad=True)  # type: ignore[call-arg]
    optimizer = create_optimizer(model, own, lr=lr, smoothness=smoothness if rule == "sharp" else None)
    draw = torch.Generator().manual_seed(seed)
    first, squares, lost = _full_loss(task, model), [], False
    relative = _relative_gradient(task, model, rule) if measured else None
    for step in range(steps):
        if rule in DECAYING and not measured:  # Theorem 1 is about a constant step
            for group in optimizer.param_groups:
                group["lr"] = (1.0 if lr is None else lr) * (1 - step / steps)
        if relative is not None:
            squares.append(relative())
        places = torch.randint(examples(task.train), (batch,), generator=draw)
        part = select(task.train, places)
        optimizer.zero_grad()
        loss = task.loss(model, part)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.replay = partial(task.loss, model, part)
        try:
            optimizer.step(loss=loss.detach())
        except LorateError:
            lost = True  # the adapters left the range of their numbers
        if lost or not math.isfinite(float(loss.detach())):
            lost = True
            break
    with optimizer.averaged():  # what rule auto ends with
        final = math.inf if lost else _full_loss(task, model)
    diverged = not final < first
    result = {"lr": lr, "seed": seed, "first_loss": first, "final_loss": None if diverged else final}
    result["diverged"] = diverged
    return {**result, "relative_sq": float(np.mean(squares))} if measured and not lost else result


def _task(workload: str, quick: bool) -> TensorWorkload:
    task = load_workload(workload, quick=quick)
    assert isinstance(task, TensorWorkload) and task.smoothness is not None
    return task


def _full_loss(task: TensorWorkload, model: nn.Module) -> float:
    with evaluating(model):
        return float(task.loss(model, task.train))


def _relative_gradient(task: TensorWorkload, model: nn.Module, rule: str) -> Callable[[], float]:
    """Measures the squared relative gradient of the whole training set, for a layer of scaling 1."""
    ((A, B),) = [(pair.A, pair.B) for pair in find_pairs(model)]

    def sizes() -> tuple[float, float]:
        return tuple(float(torch.linalg.matrix_norm(factor.detach(), 2)) ** 2 for factor in (A, B))  # type: ignore

    offset = sum(sizes())

    def measure() -> float:
        of_A, of_B = (float(g.square().sum()) for g in torch.autograd.grad(task.loss(model, task.train), (A, B)))
        a, b = sizes()
        if rule == "alternate":
            return (of_B / a + (of_A / b if b else 0.0)) / 2
        return (of_A + of_B) / (a + b + offset)

    return measure


def tuned(
    workload: str, rule: str, grid: Sequence[float], batch: int, steps: int, seeds: Sequence[int],
    factors: Sequence[float], quick: bool,
) -> Values:  # fmt: skip
    """Tune a constant on the first seed and run it on the others; then use multiples of it at the other scaling.

    Returns:
        ``grid``: a run for each constant; ``best``, ``at_edge``; ``runs`` on the other seeds; ``carried``: for each
        factor the runs at scaling `SCALING`. Without a grid there is nothing to tune.
    """

    @cache
    def run(lr: float | None, seed: int, scaling: float = 1.0) -> Values:
        return train(workload, rule, lr, batch, steps, seed, scaling, quick)

    others = seeds[1:]
    if not grid:
        return {"grid": [], "best": None, "at_edge": False, "runs": [run(None, seed) for seed in others], "carried": []}
    best = choose(grid, others, lambda lr: run(lr, seeds[0]), run)
    carried = [
        {"factor": factor, "runs": [run(factor * best.lr, seed, SCALING) for seed in others]} for factor in factors
    ]
    return {"grid": best.trials, "best": best.lr, "at_edge": best.at_edge, "runs": best.runs, "carried": carried}


def proved(rule: str, batch: int, steps: int, seeds: Sequence[int], quick: bool) -> Values:
    r"""Logistic regression with the $\theta$ that Theorem 1 allows, $1/L$ or $1/L'$, held against its bound.

    $\sigma^2 = 2\max\|x\|^2/b$ and $h = \sqrt2\max\|x\|$, as the gradient of a cross-entropy in its scores is at most
    $\sqrt2$ long; the gap is at most the first loss.
    """
    task = _task("logistic", quick)
    longest = math.sqrt(2) * float(task.train["inputs"].norm(dim=1).max())
    runs, bounds = [], []
    for seed in seeds:
        smoothness, lr = float(task.smoothness or 0), 1.0
        if rule == "relative":
            ((A, _),) = [(pair.A, pair.B) for pair in find_pairs(task.model(AdapterSpec(rank=RANK, alpha=RANK), seed))]
            offset = float(torch.linalg.matrix_norm(A.detach(), 2)) ** 2  # B starts at 0
            L, lr = smoothness, 1 / smoothness
            while lr * (smoothness := float(relative_smoothness(L, longest, offset, lr * longest))) > 1:
                lr *= 0.95  # until R = θh is allowed for
        runs.append(train("logistic", rule, lr, batch, steps, seed, 1.0, quick, measured=True))
        fraction = lr * smoothness if rule == "relative" else 1.0
        noise = longest / math.sqrt(batch)
        bounds.append(float(mean_square_bound(runs[-1]["first_loss"], smoothness, noise, steps, fraction)))
    return {"runs": runs, "bounds": bounds}


def growing(batch: int, steps: int, seeds: Sequence[int], quick: bool) -> Values:
    r"""Least squares under ``alternate`` with the $\gamma$ that Theorem 1 allows where noise grows with the loss.

    $\gamma = \min\{1, \sqrt{Lb/(\Lambda T)}\}$, $\Lambda = \max\|x\|^2$: the loss of one example is $\|x\|^2$-smooth.
    """
    task = _task("matrix", quick)
    largest = float(task.train["inputs"].square().sum(1).max())
    lr = min(1.0, math.sqrt(float(task.smoothness or 0) * batch / (largest * steps)))
    return {"runs": [train("matrix", "alternate", lr, batch, steps, seed, 1.0, quick, measured=True) for seed in seeds]}


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    how = size(options)
    seeds = options.seeds(how.seeds)
    common: dict[str, Any] = {"steps": how.steps, "seeds": seeds, "quick": options.quick}
    found = []
    for task in TASKS:
        for batch in how.batches:
            for rule in (*TUNED, "auto"):
                grid = constants(*GRIDS[task][rule], how.points) if rule in TUNED else ()
                carries = task == "logistic" and batch == CARRIED_BATCH and rule in CARRIED
                given = {"workload": task, "rule": rule, "grid": grid, "batch": batch, **common}
                given["factors"] = FACTORS if carries else ()
                found.append(Run(f"{task}-{rule}-batch-{batch}", tuned, given))
    for batch in how.batches:
        for rule in ("alternate", "relative"):
            found.append(Run(f"proved-{rule}-batch-{batch}", proved, {"rule": rule, "batch": batch, **common}))
        found.append(Run(f"growing-alternate-batch-{batch}", growing, {"batch": batch, **common}))
    return found
