"""What is run: points of rank and alpha, and the curvature measured on the way."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from lorate.adapters import find_pairs
from lorate.descent.sharp import layer_curvature
from lorate.smoothness import hessian_norm
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import train_model
from lorate_papers.workloads import AdapterSpec, Batch, Workload, load_workload

ALPHAS: dict[str, Callable[[int], float]] = {
    "r": float,
    "2r": lambda rank: 2.0 * rank,
    "4r": lambda rank: 4.0 * rank,
    "16r": lambda rank: 16.0 * rank,
    "256√r": lambda rank: 256 * math.sqrt(rank),
}
"""The choices of alpha by rank, from the usual ones to the paper's."""
PAPER_ALPHA = "256√r"
FIRST_STEP = 6e-3
"""Scaling times learning rate: AdamW's first step is the same at every alpha, and about the best one at 2r."""
TOLERANCE = 0.02
"""Relative accuracy of an eigenvalue."""
MEASURED_ON, BATCH = 16, 8
"""Sequences of the batch whose curvature is measured, always the same one, and of a training step."""


class Size(NamedTuple):
    """How much is run."""

    ranks: tuple[int, ...]
    alphas: tuple[str, ...]  # keys of `ALPHAS`
    seeds: int  # starts
    steps: tuple[int, ...]  # after which the curvature is measured, 0 first; training ends with the last


FULL = Size((2, 8, 32), tuple(ALPHAS), 2, (0, 10, 40, 120))
QUICK = Size((4, 16), ("r", "2r", PAPER_ALPHA), 1, (0, 20))


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def run_name(rank: int, alpha: str, seed: int) -> str:
    """Of the run of one point."""
    return f"rank-{rank}-alpha-{alpha.replace('√', 'root-')}-seed-{seed}"


def runs(options: Options) -> list[Run]:
    """Every point with every seed."""
    how = size(options)
    return [
        Run(
            run_name(rank, alpha, seed),
            train_and_measure,
            {"rank": rank, "alpha": ALPHAS[alpha](rank), "steps": list(how.steps), "seed": seed},
        )
        for rank in how.ranks
        for alpha in how.alphas
        for seed in options.seeds(how.seeds)
    ]


def train_and_measure(rank: int, alpha: float, steps: Sequence[int], seed: int) -> dict[str, Any]:
    """Train the adapters of the small language model whose weights come with the package, and measure on the way.

    Returns:
        ``rows``: what `curvatures` returns after each of the steps, with the ``step``, as far as the run came;
        ``lr``; ``loss``: held out at the end, None if it diverged; ``diverged``.
    """
    workload = load_workload("small-lm", quick=True)
    model = workload.model(AdapterSpec(rank, alpha), seed)
    batch = next(workload.batches(MEASURED_ON, seed + 500))
    rows = [{"step": 0, **curvatures(workload, model, batch)}]
    taken = 0

    def after_step() -> None:
        nonlocal taken
        taken += 1
        if taken in steps:
            rows.append({"step": taken, **curvatures(workload, model, batch)})

    lr = FIRST_STEP * rank / alpha
    seen = train_model(workload, model, Recipe("adamw", lr, steps[-1], BATCH, seed), after_step=after_step)
    return {"rows": rows, "lr": lr, "loss": seen["final_validation"], "diverged": seen["diverged"]}


def curvatures(workload: Workload, model: torch.nn.Module, batch: Batch) -> dict[str, float | bool]:
    r"""Largest absolute eigenvalue of the loss's Hessian in the adapters and in the adapted weights, on one batch.

    With $W_l = W_{0,l} + s_lB_lA_l$ the Hessian in the factors is $J^TH_WJ$ plus the bilinear part, so at every point

    $$ \|H_{AB}\|_2 \le \max_l \left( s_l^2\|H_W\|_2(\|A_l\|_2^2 + \|B_l\|_2^2) + s_l\|G_l\|_2 \right), $$

    the curvature of the sharp lemma with the Hessian's norm at the point for L.

    Returns:
        ``adapters``, ``weights``, ``bound`` (the right-hand side), and whether both iterations ``converged``.
    """
    pairs = find_pairs(model)
    weights = [pair.layer.get_base_layer().weight for pair in pairs]  # type: ignore[operator]

    def loss() -> torch.Tensor:
        return workload.loss(model, batch)

    def largest(parameters: Sequence[torch.Tensor]) -> Any:
        return hessian_norm(loss, parameters, tolerance=TOLERANCE, max_iterations=80)

    own, base = largest([factor for pair in pairs for factor in (pair.A, pair.B)]), largest(weights)
    for weight in weights:
        weight.requires_grad_(True)
    gradients = torch.autograd.grad(loss(), weights)
    for weight in weights:
        weight.requires_grad_(False)
    a, b, g = (
        [float(torch.linalg.matrix_norm(matrix.detach(), 2)) for matrix in matrices]
        for matrices in ([pair.A for pair in pairs], [pair.B for pair in pairs], gradients)
    )
    bound = layer_curvature(a, b, g, smoothness=base.value, scaling=[pair.scaling for pair in pairs]).max()
    converged = own.converged and base.converged
    return {"adapters": own.value, "weights": base.value, "bound": float(bound), "converged": converged}
