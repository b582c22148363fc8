"""L-BFGS on many independent problems at once: every row of a tensor is one problem with its own step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Minimum:
    """Where the search ended: points ``[problems, d]``, values and gradient norms ``[problems]``."""

    x: Tensor
    value: Tensor
    gradient_norm: Tensor
    iterations: int


def minimise(
    objective: Objective, start: Tensor, max_iterations: int = 500, tolerance: float = 1e-8, memory: int = 10
) -> Minimum:
    """Minimise each row's objective by L-BFGS with a halving line search.

    Args:
        objective: values ``[problems]`` and gradients ``[problems, d]`` at points ``[problems, d]``.
        start: start points, shape ``[problems, d]``.
        max_iterations: steps at most.
        tolerance: gradient norm relative to the first one at which a problem counts as solved.
        memory: pairs of steps kept.

    Source: Nocedal and Wright, Numerical Optimization, algorithm 7.5.
    """
    x = start.clone()
    value, gradient = objective(x)
    goal = tolerance * gradient.norm(dim=-1).clamp_min(1e-300)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    stuck = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    iterations = 0
    while iterations < max_iterations:
        if bool((stuck | (gradient.norm(dim=-1) <= goal)).all()):
            break
        iterations += 1
        direction = -_apply_inverse(gradient, pairs)
        slope = (direction * gradient).sum(-1)
        uphill = ~(slope < 0)
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(-1), slope)
        first = 1 / gradient.norm(dim=-1).clamp_min(1e-300) if not pairs else torch.ones_like(value)
        new_x, new_value, new_gradient, moved = _search(objective, x, value, gradient, direction, slope, first)
        stuck = ~moved
        pairs = [*pairs, _pair(new_x - x, new_gradient - gradient)][-memory:]
        x, value, gradient = new_x, new_value, new_gradient
    return Minimum(x, value, gradient.norm(dim=-1), iterations)


def _pair(s: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step, its change of gradient and 1 / (s.y); the pair is switched off where the curvature is not positive."""
    sy = (s * y).sum(-1)
    usable = sy > 1e-12 * s.norm(dim=-1) * y.norm(dim=-1)
    return s, y, torch.where(usable, 1 / torch.where(usable, sy, torch.ones_like(sy)), torch.zeros_like(sy))


def _apply_inverse(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion: approximate inverse second derivative times the gradient."""
    q = gradient
    weights: list[Tensor] = []
    scale = torch.ones(len(q), dtype=q.dtype, device=q.device)
    for s, y, rho in reversed(pairs):
        weight = rho * (s * q).sum(-1)
        weights.append(weight)
        q = q - weight[:, None] * y
    for s, y, rho in pairs:  # the latest usable pair sets the scale
        scale = torch.where(rho > 0, (s * y).sum(-1) / y.square().sum(-1).clamp_min(1e-300), scale)
    q = scale[:, None] * q
    for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
        q = q + (weight - rho * (y * q).sum(-1))[:, None] * s
    return q


def _search(
    objective: Objective, x: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, slope: Tensor, length: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each problem's step until its objective falls enough; a problem that never does stays where it is."""
    new_x, new_value, new_gradient = x, value, gradient
    moved = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(30):
        trial = torch.where(moved[:, None], new_x, x + length[:, None] * direction)
        trial_value, trial_gradient = objective(trial)
        enough = ~moved & (trial_value <= value + 1e-4 * length * slope)
        new_x = torch.where(enough[:, None], trial, new_x)
        new_value = torch.where(enough, trial_value, new_value)
        new_gradient = torch.where(enough[:, None], trial_gradient, new_gradient)
        moved = moved | enough
        if bool(moved.all()):
            break
        length = length / 2
    return new_x, new_value, new_gradient, moved
