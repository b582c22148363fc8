"""What the runs do: functions of plain values that return plain values."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lorate_papers.attention import (
    Finetuning,
    NotConverged,
    Pretraining,
    active_sequences,
    fresh_sequences,
    optimal_beta,
    predict,
    solve_finetuning,
    solve_pretraining,
    sweep,
)
from lorate_papers.attention.simulation import (
    Instance,
    clean_error,
    draw_instance,
    finetune_adapter,
    finetuning_data,
    gaussian_data,
    pretrain_map,
    simulate,
)
from lorate_papers.attention.simulation.data import bilinear, normal
from lorate_papers.experiments.attention.bridge import Array, Bridge, descend_factor, descend_lora

Values = dict[str, Any]


def theory_line(over: str, grid: Sequence[float], fixed: Mapping[str, Any], points: int) -> Values:
    """The theory along a line; where it did not settle or is unstable, the place is reported and the value left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stability is in the result
        solved = sweep([{**fixed, over: at, "points": points} for at in grid])
    failed = [at for at, one in zip(grid, solved, strict=True) if isinstance(one, NotConverged)]
    good = [(at, one) for at, one in zip(grid, solved, strict=True) if not isinstance(one, NotConverged)]
    unstable = [at for at, one in good if not one.stable]
    rows = [{"at": at, **one.row()} for at, one in good if one.stable]
    return {"rows": rows, "failed": failed, "unstable": unstable}


def theory_point(fixed: Mapping[str, Any], points: int) -> Values:
    """The theory at one point."""
    return predict(**fixed, points=points).row()


def simulated_point(fixed: Mapping[str, Any], dimension: int, seeds: Sequence[int]) -> Values:
    """Both stages on random data: each measured number, one value per seed."""
    measured = simulate(**fixed, dimension=dimension, seeds=seeds)
    return {name: values.tolist() for name, values in measured.values.items()}


def gaussian_point(fixed: Mapping[str, Any], dimension: int, seeds: Sequence[int], points: int) -> Values:
    """Overlap of fine-tuning alone: Gaussian noise of the predicted effective variance replaces the frozen map."""
    noise = fresh_sequences(solve_pretraining(_problem(fixed)))
    problem = Finetuning(fixed["finetune_alpha"], fixed["finetune_lam"], noise, fixed["tokens"])
    tuned = finetune_adapter(gaussian_data(problem, dimension, tuple(seeds)), problem.lam)
    return {"overlap": tuned.overlap.tolist(), "theory": solve_finetuning(problem, points).overlap}


def active_selection(
    fixed: Mapping[str, Any], fractions: Sequence[float], dimension: int, seeds: Sequence[int], points: int
) -> Values:
    """Fine-tuning on actively chosen sequences, and after recalibration: measured on the same maps, and predicted."""
    problem = _problem(fixed)
    order = solve_pretraining(problem)
    best = optimal_beta(order)
    instance = draw_instance(problem, dimension, seeds)
    S = pretrain_map(instance).S
    pools = _mismatch_by_size(instance, S, best)
    rows = []
    for fraction, beta in [*((fraction, 1.0) for fraction in fractions), (None, best)]:
        seen = fresh_sequences(order, beta) if fraction is None else active_sequences(order, fraction)
        options: Values = {"fraction": fraction, "beta": beta}
        predicted = predict(**fixed, **options, points=points).row()
        data = finetuning_data(instance, beta * S, fixed["finetune_alpha"], fraction=fraction)
        tuned = finetune_adapter(data, fixed["finetune_lam"])
        rows.append(
            {
                **options,
                "theory": {"noise": seen, "overlap": predicted["overlap"], "error": predicted["E_finetuned"]},
                "noise": [_noise_of_share(problem, *pool, fraction) for pool in pools],
                "overlap": tuned.overlap.tolist(),
                "error": clean_error(instance, beta * S, tuned.w).tolist(),
            }
        )
    return {"rows": rows}


POOL = 6000
"""Sequences on which the effective noise of a selection is measured."""


def _mismatch_by_size(instance: Instance, S: torch.Tensor, best: float) -> list[tuple[Array, Array]]:
    """For each seed the squared mismatch on a pool, smallest prediction first; and on all of it, recalibrated."""
    pools = []
    for place, seed in enumerate(instance.seeds):
        x = normal((seed,), "pool of the measurement", (POOL, instance.problem.tokens, instance.dimension))
        predicted, wanted = bilinear(S[place : place + 1], x)[0], bilinear(instance.S0[place : place + 1], x)[0]
        order = predicted.square().sum((-1, -2)).argsort()
        plain = (wanted - predicted).square().sum((-1, -2))[order]
        recalibrated = (wanted - best * predicted).square().sum((-1, -2))
        pools.append((plain.numpy(), recalibrated.numpy()))
    return pools


def _noise_of_share(problem: Pretraining, plain: Array, recalibrated: Array, fraction: float | None) -> float:
    T = problem.tokens
    chosen = recalibrated if fraction is None else plain[: max(round(fraction * len(plain)), 1)]
    return float(problem.noise / 2 + chosen.mean() / (T * (T + 1)))


def descent_under_rules(
    fixed: Mapping[str, Any], rules: Sequence[str], steps: int, dimension: int, seed: int
) -> Values:
    """Rank-one LoRA by gradient descent under each rule, from the spectral and from the informed start."""
    instance, S, bridge = _bridge(fixed, dimension, seed)
    best = {
        "loss": bridge.best,
        "overlap": bridge.overlap(bridge.best_adapter),
        "error": _error(instance, S, bridge.best_adapter),
    }
    rows = []
    for start, w in (("spectral", bridge.spectral_start()), ("informed", bridge.informed_start())):
        for rule in rules:
            run = descend_lora(bridge, S[0], w, rule, steps)
            measured = {"overlap": bridge.overlap(run.w), "error": _error(instance, S, run.w)}
            rows.append({"start": start, "rule": rule, "losses": run.losses.tolist(), **measured})
    return {"best": best, "rows": rows}


def descent_left_free(fixed: Mapping[str, Any], steps: int, dimension: int, seed: int) -> Values:
    """The same with B and A free to differ, pushed apart a little at the start: where does plain LoRA end?"""
    instance, S, bridge = _bridge(fixed, dimension, seed)
    start = bridge.spectral_start()
    push = 1e-3 * np.linalg.norm(start) * bridge.random_start(seed) / math.sqrt(dimension)
    free = descend_lora(bridge, S[0], start, "majorizer", steps, tie=False, push=push)
    whole = replace(instance, S0=instance.S0 + instance.w0[:, :, None] * instance.w0[:, None, :])
    learned = S + torch.as_tensor(free.symmetric_part)[None]
    return {
        "tied": {"loss": bridge.best, "error": _error(instance, S, bridge.best_adapter)},
        "free": {"loss": float(free.losses[-1]), "error": float(clean_error(whole, learned)[0])},
        "eigenvalues": (np.linalg.eigvalsh(free.symmetric_part)[[0, -1]] / dimension).tolist(),
    }


def descent_from_random(fixed: Mapping[str, Any], starts: int, steps: int, dimension: int, seed: int) -> Values:
    """How close descent comes to the global minimum from random starts, and from the two that know something."""
    _, _, bridge = _bridge(fixed, dimension, seed)
    ends: dict[str, list[float]] = {"random": [], "spectral": [], "informed": []}
    points = [("random", bridge.random_start(1000 * seed + number)) for number in range(starts)]
    points += [("spectral", bridge.spectral_start()), ("informed", bridge.informed_start())]
    for start, w in points:
        run = descend_factor(bridge, w, "majorizer", steps)
        ends[start].append(bridge.overlap(run.w) / max(bridge.overlap(bridge.best_adapter), 1e-12))
        ends.setdefault(f"{start} gap", []).append(float(run.losses[-1]) / bridge.best - 1)
    return {**ends, "best overlap": bridge.overlap(bridge.best_adapter)}


def _problem(fixed: Mapping[str, Any]) -> Pretraining:
    names = ("alpha", "lam", "tokens", "kappa0", "kappa", "noise")
    return Pretraining(**{name: fixed[name] for name in names})


def _bridge(fixed: Mapping[str, Any], dimension: int, seed: int) -> tuple[Instance, torch.Tensor, Bridge]:
    instance = draw_instance(_problem(fixed), dimension, (seed,))
    S = pretrain_map(instance).S
    data = finetuning_data(instance, S, fixed["finetune_alpha"])
    return instance, S, Bridge.of(data, fixed["finetune_lam"])


def _error(instance: Instance, S: torch.Tensor, w: Any) -> float:
    return float(clean_error(instance, S, torch.as_tensor(w)[None])[0])
