"""What is run: theory lines, simulations on them, and selections from a pool."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from lorate.sweep import Run
from lorate_papers.attention import (
    BestDecay,
    Finetuning,
    FinetuningOrder,
    Pretraining,
    active_sequences,
    bayes_bound,
    bayes_error,
    bayes_overlap,
    fresh_sequences,
    optimal_decay,
    optimal_finetuning_decay,
    solve_finetuning,
    solve_pretraining,
)
from lorate_papers.attention.simulation import (
    clean_error,
    draw_instance,
    finetune_adapter,
    finetuning_data,
    posterior_adapter,
    pretrain_map,
)
from lorate_papers.experiments.experiment import Options

Values = dict[str, Any]

MODEL = {"alpha": 0.1, "tokens": 3, "kappa0": 1.0, "kappa": 1.0, "noise": 0.5}
DECAYS = (0.05, 0.5, 2.0)
"""Weight decays of fine-tuning."""
ACTIVE = {"alpha": 0.1, "lam": 0.3, "tokens": 3, "kappa0": 1.0, "kappa": 1.0, "noise": 0.0}
POOL, ACTIVE_DECAY = 100, 0.2
"""Sequences to choose from, over D, and the weight decay of fine-tuning on those chosen."""
SHARES = (0.04, 0.02, 0.015)
BEST = "best λ′"
"""Name of the row of the best weight decay of fine-tuning."""
POINTS = 2**10
"""Quasi-random points that find this weight decay for a simulation."""


class Size(NamedTuple):
    """How much is run."""

    alphas: tuple[float, ...]  # of the theory
    simulated: tuple[float, ...]  # of them
    points: int  # quasi-random ones
    dimension: int  # D of the simulated points; at 100 message passing still misses more than in theory
    active_dimension: int  # D of the selections
    seeds: int  # of a simulated point
    active_seeds: int  # of the selections, which are compared in pairs
    together: int  # of them in one run


FULL = Size((0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), (0.5, 1.0, 2.0, 4.0), 2**12, 200, 100, 6, 40, 4)
QUICK = Size((0.5, 1.0, 3.0), (1.0,), 2**10, 40, 40, 3, 6, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    how = size(options)
    seeds = options.seeds(how.active_seeds)
    chosen = {"fixed": ACTIVE, "shares": SHARES, "dimension": how.active_dimension}
    batches = [seeds[place : place + how.together] for place in range(0, len(seeds), how.together)]
    found = [Run(f"active-from-{batch[0]}", selections, {**chosen, "seeds": batch}) for batch in batches]
    for alpha in how.simulated:
        given = {"fixed": MODEL, "alpha": alpha, "decays": DECAYS, "dimension": how.dimension}
        found.append(Run(f"simulation-at-{alpha:g}", simulation, {**given, "seeds": options.seeds(how.seeds)}))
    for alpha in how.alphas:
        given = {"fixed": MODEL, "alpha": alpha, "decays": DECAYS, "points": how.points}
        found.append(Run(f"theory-at-{alpha:g}", theory, given))
    given = {"fixed": ACTIVE, "shares": SHARES, "points": how.points}
    return [*found, Run("active-theory", active_theory, given)]


def theory(fixed: Mapping[str, Any], alpha: float, decays: Sequence[float], points: int) -> Values:
    """Errors and overlaps at one amount of fine-tuning data: of the frozen map, of training, and Bayes-optimal.

    The map is trained at its best weight decay; ``best map`` takes Bayes-optimal pre-training in its place. ``best λ′``
    is training at the weight decay of least error.
    """
    T, q0 = fixed["tokens"], 1.0
    best = optimal_decay(Pretraining(lam=1.0, **fixed))
    mismatch = best.effective_noise - fixed["noise"] / 2
    frozen = bayes_error(mismatch, 0.0, T)
    bound = bayes_bound(fixed["alpha"], T, fixed["kappa0"], fixed["noise"])
    rows = {}
    for name, lam in _named(decays, alpha, best, points).items():
        tuned = solve_finetuning(Finetuning(alpha, lam, best.effective_noise, T), points)
        error = frozen + _error_of_the_adapter(tuned, T)
        rows[name] = {"decay": lam, "overlap": tuned.overlap, "error": error, "stable": tuned.stable}
    learners = {"same map": best.effective_noise, "best map": bound.effective_noise}
    for name, noise in learners.items():
        q = bayes_overlap(Finetuning(alpha, 0.0, noise, T), points)
        error = bayes_error(noise - fixed["noise"] / 2, q, T)
        rows[name] = {"q": q, "overlap": math.sqrt(q / q0), "error": error}
    return {"lam": best.lam, "noise": best.effective_noise, "frozen": frozen, **rows}


def _named(decays: Sequence[float], alpha: float, pretrained: BestDecay, points: int) -> dict[str, float]:
    tokens = pretrained.order.problem.tokens
    best = optimal_finetuning_decay(alpha, pretrained.effective_noise, tokens, points)
    return {**{f"{lam:g}": lam for lam in decays}, BEST: best}


def _error_of_the_adapter(tuned: FinetuningOrder, tokens: int) -> float:
    """What the adapter adds to the frozen map's test error; below 0 where it helps."""
    return (tokens + 1) / tokens * (tuned.q**2 - 2 * tuned.m**2)


def simulation(
    fixed: Mapping[str, Any], alpha: float, decays: Sequence[float], dimension: int, seeds: Sequence[int]
) -> Values:
    """The same measured, one value a seed; the best λ′ as in theory, the posterior mean by message passing."""
    best = optimal_decay(Pretraining(lam=1.0, **fixed))
    instance = draw_instance(best.order.problem, dimension, seeds)
    S = pretrain_map(instance).S
    data = finetuning_data(instance, S, alpha)
    adapters = {name: finetune_adapter(data, lam).w for name, lam in _named(decays, alpha, best, POINTS).items()}
    adapters["same map"] = posterior_adapter(data, best.effective_noise, start=adapters[BEST])
    rows: Values = {
        name: {"overlap": _overlap(w, instance.w0), "error": clean_error(instance, S, w).tolist()}
        for name, w in adapters.items()
    }
    return {"frozen": clean_error(instance, S, torch.zeros_like(instance.w0)).tolist(), **rows}


def active_theory(fixed: Mapping[str, Any], shares: Sequence[float], points: int) -> Values:
    """Overlap and error of the adapter on chosen sequences and on as many that are taken as they come."""
    order = solve_pretraining(Pretraining(**fixed))
    rows = {}
    for share in shares:
        noises = {"chosen": active_sequences(order, share), "as they come": fresh_sequences(order)}
        rows[f"{share:g}"] = {name: _tuned(share, noise, fixed["tokens"], points) for name, noise in noises.items()}
    return rows


def _tuned(share: float, noise: float, tokens: int, points: int) -> Values:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = solve_finetuning(Finetuning(POOL * share, ACTIVE_DECAY, noise, tokens), points)
    return {"noise": noise, "overlap": tuned.overlap, "error": 1 - 2 * tuned.m**2 + tuned.q**2}


def selections(fixed: Mapping[str, Any], shares: Sequence[float], dimension: int, seeds: Sequence[int]) -> Values:
    """Both measured on the same maps, one value a seed; error is the adapter's own part, |ww^T - w0w0^T|^2 / D^2."""
    instance = draw_instance(Pretraining(**fixed), dimension, seeds)
    S = pretrain_map(instance).S
    rows: Values = {}
    for share in shares:
        rows[f"{share:g}"] = {}
        for name, fraction in (("chosen", share), ("as they come", None)):
            tuned = finetune_adapter(finetuning_data(instance, S, POOL * share, fraction=fraction), ACTIVE_DECAY)
            error = 1 - 2 * tuned.m**2 + tuned.q**2
            rows[f"{share:g}"][name] = {"overlap": tuned.overlap.tolist(), "error": error.tolist()}
    return rows


def _overlap(w: torch.Tensor, w0: torch.Tensor) -> list[float]:
    cosine = (w * w0).sum(-1) / (w.norm(dim=-1) * w0.norm(dim=-1))
    values: list[float] = cosine.abs().tolist()
    return values
