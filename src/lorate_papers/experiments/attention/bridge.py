r"""The adapter of the solvable model trained by gradient descent under lorate's rules.

The model's adapter is symmetric, $w w^T$; LoRA's is B A. Two ways lead from one to the other, and both are used:

- The loss is a function f of $M = ww^T$ alone, since $|w|^2 = \mathrm{Tr}\,M$. That is Burer and Monteiro's problem
  with one column, so `lorate_papers.symmetric.minimise_symmetric` applies as it stands. For linear attention f is
  quadratic, and its smoothness is an eigenvalue.
- A PEFT layer of rank one that starts from $A = B^T = w^T$ and enters the attention through its symmetric part has
  a symmetric weight gradient G, so the gradients $B^TG$ of A and $GA^T$ of B are equal and stay so. Rounding errors off
  this set can grow, because B A could also learn a negative direction, so the two are averaged after each step.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorate.extras import require
from lorate.optim import create_optimizer
from lorate_papers.attention.simulation import finetune_adapter
from lorate_papers.attention.simulation.data import activate, bilinear, bilinear_adjoint, loss_gradient
from lorate_papers.attention.simulation.finetune import FinetuningData
from lorate_papers.symmetric import SymmetricRule, minimise_symmetric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bridge:
    """One fine-tuning problem with linear attention, as a function of a symmetric matrix."""

    data: FinetuningData  # a single seed
    lam: float  # weight decay of the adapter
    smoothness: float  # L of the loss as a function of M, in the Frobenius norm
    best: float  # loss of the global minimum as L-BFGS from four starts finds it
    best_adapter: Array  # its w, shape ``[D]``

    @classmethod
    def of(cls, data: FinetuningData, lam: float) -> "Bridge":
        """The problem with its smoothness (by power iteration) and its global minimum."""
        found = finetune_adapter(data, lam)
        return cls(data, lam, _smoothness(data.x), float(found.losses.min()), found.w[0].numpy())

    @property
    def teacher(self) -> Array:
        """The teacher w0, shape ``[D]``."""
        return self.data.w0[0].numpy()

    def value(self, M: Array) -> float:
        """Training loss with weight decay, lambda' Tr M."""
        A = self.data.offset + bilinear(torch.as_tensor(M)[None], self.data.x)
        residual = activate(A, self.data.attention) - self.data.y
        return float(residual.square().sum()) + self.lam * float(np.trace(M))

    def gradient(self, M: Array) -> Array:
        """Gradient of the loss in M, symmetric."""
        A = self.data.offset + bilinear(torch.as_tensor(M)[None], self.data.x)
        G = bilinear_adjoint(loss_gradient(A, self.data.y, self.data.attention), self.data.x)[0]
        return np.asarray(G.numpy() + self.lam * np.eye(len(M)))

    def spectral_start(self) -> Array:
        """Leading direction of the downhill gradient at w = 0, with half the teacher's squared norm."""
        D = len(self.teacher)
        leading = np.linalg.eigh(-self.gradient(np.zeros((D, D))))[1][:, -1]
        return np.asarray(leading * math.sqrt(D / 2))

    def informed_start(self) -> Array:
        """The teacher itself."""
        return self.teacher.copy()

    def random_start(self, seed: int) -> Array:
        """A Gaussian direction with half the teacher's squared norm on average."""
        D = len(self.teacher)
        return np.random.default_rng(seed).normal(size=D) / math.sqrt(2)

    def overlap(self, w: Array) -> float:
        """|cosine| of an adapter with the teacher."""
        return float(abs(w @ self.teacher) / (np.linalg.norm(w) * np.linalg.norm(self.teacher)))


@dataclass(frozen=True)
class Descent:
    """Gradient descent on one problem."""

    w: Array  # the last adapter, shape ``[D]``; of a pair that is left free, the mean of A and B
    losses: Array  # before every step and after the last, shape ``[steps + 1]``
    symmetric_part: Array  # of the product B A, which is what the attention sees, shape ``[D, D]``


def descend_factor(bridge: Bridge, start: Array, rule: SymmetricRule, steps: int) -> Descent:
    """Descent on f(w w^T) with a rule that is proved for it."""
    run = minimise_symmetric(bridge.value, bridge.gradient, start[:, None], bridge.smoothness, steps, rule)
    return Descent(run.factor[:, 0], run.values, run.factor @ run.factor.T)


def descend_lora(
    bridge: Bridge, S: Tensor, start: Array, rule: str, steps: int, tie: bool = True, push: Array | None = None
) -> Descent:
    r"""Descent of a PEFT adapter of rank one by lorate's optimizer.

    The rules with a theory get the exact L; ``adaptive-loss``, whose form is $a / (\|V\|^2 + \sqrt{Loss})$, gets
    $a = 1/(2L)$.

    Args:
        bridge: the problem.
        S: the frozen map, shape ``[D, D]``.
        start: w, shape ``[D]``.
        rule: name of a rule.
        steps: taken.
        tie: average A and B after each step, against rounding errors.
        push: added to A and taken from B at the start, shape ``[D]``.
    """
    model, A, B = _lora_model(S, start)
    if push is not None:
        with torch.no_grad():
            A[0] += torch.as_tensor(push)
            B[:, 0] -= torch.as_tensor(push)
    if rule == "adaptive-loss":
        optimizer = create_optimizer(model, rule, lr=1 / (2 * bridge.smoothness))
    else:
        optimizer = create_optimizer(model, rule, smoothness=bridge.smoothness)
    x, y = bridge.data.x[0], bridge.data.y[0]
    frozen = float(S.trace())

    def loss() -> Tensor:
        scores, trace = model(x)
        value: Tensor = (activate(scores, "linear") - y).square().sum() + bridge.lam * (trace - frozen)
        return value

    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        current = loss()
        losses.append(float(current.detach()))
        current.backward()  # type: ignore[no-untyped-call]
        optimizer.step(loss=current.detach())
        if tie:
            _tie(A, B)
    with torch.no_grad():
        losses.append(float(loss()))
        product = B @ A
        mean = (A[0] + B[:, 0]) / 2
    return Descent(mean.numpy(), np.array(losses), ((product + product.T) / 2).numpy())


class SymmetricAttention(nn.Module):
    """Centred scores x (W + W^T) x^T / (2 D) - (Tr W / D) I of one linear map, and Tr W.

    Args:
        S: the map's weight, shape ``[D, D]``.
    """

    def __init__(self, S: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(len(S), len(S), bias=False, dtype=S.dtype)
        self.map.weight.data.copy_(S)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[N, T, T]`` of sequences ``[N, T, D]``, and the trace."""
        T, D = x.shape[-2:]
        scores = x @ self.map(x).mT / D
        trace = self.map(torch.eye(D, dtype=x.dtype)).diagonal().sum()  # through the layer, so that hooks see it
        return (scores + scores.mT) / 2 - trace / D * torch.eye(T, dtype=x.dtype), trace


def _lora_model(S: Tensor, start: Array) -> tuple[nn.Module, Tensor, Tensor]:
    peft = require("peft", extra="hf")
    config = peft.LoraConfig(r=1, lora_alpha=1, target_modules=["map"])
    model = peft.get_peft_model(SymmetricAttention(S), config).double()
    layer = model.base_model.model.map
    A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    A.data.copy_(torch.as_tensor(start)[None])
    B.data.copy_(torch.as_tensor(start)[:, None])
    return model, A, B


@torch.no_grad()
def _tie(A: Tensor, B: Tensor) -> None:
    mean = (A[0] + B[:, 0]) / 2
    A[0], B[:, 0] = mean, mean


def _smoothness(x: Tensor, steps: int = 80, margin: float = 1.02) -> float:
    """L = 2/T^2 times the largest eigenvalue of the measurement operator's square, a little from above."""
    T, D = x.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    M = torch.randn(1, D, D, dtype=x.dtype, generator=generator)
    M, largest = (M + M.mT) / M.norm(), 0.0
    for _ in range(steps):
        M = bilinear_adjoint(bilinear(M, x), x)
        largest = float(M.norm())
        M = M / largest
    return margin * 2 / T**2 * largest
