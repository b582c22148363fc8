r"""Pre-training at finite dimension, by proximal gradient on S.

It minimises the sum over sequences of ||sigma(A) - y||_F^2 + lambda sqrt(P) Tr S over positive semidefinite S, where
S = W W^T / sqrt(P); for linear attention the program is convex in S.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorate_papers.attention.simulation.data import Instance, activate, bilinear, bilinear_adjoint, loss_gradient

SOFTMAX_CURVATURE = 0.35  # of the loss of a sequence in its attention, enough in practice


@dataclass(frozen=True)
class Pretrained:
    """Learned maps."""

    S: Tensor  # shape ``[seeds, D, D]``
    objective: Tensor  # regularised training loss, shape ``[seeds]``
    iterations: int  # steps taken

    def order(self, instance: Instance) -> tuple[Tensor, Tensor, Tensor]:
        """Q, M and the realised Q0 of each seed, each of shape ``[seeds]``."""
        D = instance.dimension
        pairs = ((self.S, self.S), (self.S, instance.S0), (instance.S0, instance.S0))
        Q, M, Q0 = ((left * right).sum((-1, -2)) / D**2 for left, right in pairs)
        return Q, M, Q0


def train_loss(instance: Instance, S: Tensor) -> Tensor:
    """Training loss without the weight decay, shape ``[seeds]``."""
    residual = activate(bilinear(S, instance.x), instance.attention) - instance.y
    return residual.square().sum((-1, -2, -3))


def pretrain_map(instance: Instance, max_iterations: int = 500, tolerance: float = 1e-7) -> Pretrained:
    """Accelerated proximal gradient with restarts on S (FISTA): shrink the eigenvalues, cut at zero.

    Args:
        instance: what to train on.
        max_iterations: steps at most; near the interpolation threshold more are needed.
        tolerance: change of S in a step over 1 + ||S||_F, in every seed, that stops it.

    Source: Beck and Teboulle 2009; restarts of O'Donoghue and Candes 2015.
    """
    T = instance.problem.tokens
    curvature = 2 / T**2 if instance.attention == "linear" else SOFTMAX_CURVATURE
    smoothness = _operator_norm(instance) * curvature * 1.05
    width = _width(instance)
    decay = instance.problem.lam * math.sqrt(width)
    S = torch.zeros_like(instance.S0)
    ahead, momentum, iterations = S, torch.ones(len(S), dtype=S.dtype, device=S.device), 0
    while iterations < max_iterations:
        iterations += 1
        gradient = _gradient(instance, ahead)
        step = ahead - gradient / smoothness[:, None, None]
        values, vectors = torch.linalg.eigh(step)
        values = (values - decay / smoothness[:, None]).clamp_min(0)
        new = (vectors * values[:, None, :]) @ vectors.mT
        backwards = ((ahead - new) * (new - S)).sum((-1, -2)) > 0  # momentum points uphill: start it afresh
        momentum = torch.where(backwards, torch.ones_like(momentum), momentum)
        following = (1 + torch.sqrt(1 + 4 * momentum**2)) / 2
        push = torch.where(backwards, torch.zeros_like(momentum), (momentum - 1) / following)
        change = (new - S).norm(dim=(-1, -2))
        ahead = new + push[:, None, None] * (new - S)
        S, momentum = new, following
        if bool((change <= tolerance * (1 + S.norm(dim=(-1, -2)))).all()):
            break
    return Pretrained(S, _objective(instance, S, decay), iterations)


def _width(instance: Instance) -> int:
    return max(round(instance.problem.kappa * instance.dimension), 1)


def _objective(instance: Instance, S: Tensor, decay: float) -> Tensor:
    return train_loss(instance, S) + decay * S.diagonal(dim1=-2, dim2=-1).sum(-1)


def _gradient(instance: Instance, S: Tensor) -> Tensor:
    """Gradient of the training loss in S."""
    A = bilinear(S, instance.x)
    return bilinear_adjoint(loss_gradient(A, instance.y, instance.attention), instance.x)


def _operator_norm(instance: Instance, steps: int = 15) -> Tensor:
    """Largest eigenvalue of the measurement operator's square, shape ``[seeds]``, by power iteration."""
    S = instance.S0 / instance.S0.norm(dim=(-1, -2), keepdim=True)
    norm = torch.ones(len(S), dtype=S.dtype, device=S.device)
    for _ in range(steps):
        S = bilinear_adjoint(bilinear(S, instance.x), instance.x)
        norm = S.norm(dim=(-1, -2))
        S = S / norm[:, None, None]
    return norm
