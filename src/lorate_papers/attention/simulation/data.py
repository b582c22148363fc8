"""Random instances of the model at finite dimension, many seeds at once.

All arrays carry the seeds on the first axis. Attention is centred as in the theory, labels are attention matrices
sigma(A), and errors are squared Frobenius norms of their differences, which in high dimension equal those of the
outputs.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate_papers.attention.arguments import check_whole
from lorate_papers.attention.pretraining import Pretraining

LARGEST = 64e9
"""Bytes of random numbers for one purpose: beyond it a slip of the hand is likelier than a machine that bears it."""

AttentionName = Literal["linear", "softmax"]


def activate(A: Tensor, attention: AttentionName) -> Tensor:
    """sigma(A): A / T, or the softmax of its rows."""
    return A / A.shape[-1] if attention == "linear" else torch.softmax(A, -1)


@dataclass(frozen=True)
class Instance:
    """Teachers and pre-training sequences."""

    problem: Pretraining  # pre-training
    attention: AttentionName  # the attention function
    S0: Tensor  # the frozen map's teacher, shape ``[seeds, D, D]``
    w0: Tensor  # the adapter's teacher, of squared norm D, shape ``[seeds, D]``
    x: Tensor  # sequences, shape ``[seeds, N, T, D]``
    z: Tensor  # label noise of variance one, shape ``[seeds, N, T, T]``
    y: Tensor  # labels of pre-training, shape ``[seeds, N, T, T]``
    seeds: tuple[int, ...]  # one instance a seed

    @property
    def dimension(self) -> int:
        """D, the width of a token."""
        return self.S0.shape[-1]


def draw_instance(
    problem: Pretraining,  # pre-training; N = alpha D^2 and P0 = kappa0 D are rounded
    dimension: int,  # D, at least 2
    seeds: Sequence[int],  # one instance a seed
    attention: AttentionName = "linear",  # the attention function
    # where the tensors live; they are drawn on the CPU, so that the numbers do not depend on it
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,  # of the tensors
) -> Instance:
    """Draw teachers and pre-training sequences; every seed gives the same instance in any batch.

    Raises:
        LorateError: the dimension is no whole number of at least 2, or no seed is given.
    """
    check_whole("dimension", dimension, at_least=2)
    if not seeds:
        raise LorateError("seeds must hold at least one number; it is empty")
    D, T = dimension, problem.tokens
    count, width = max(round(problem.alpha * D * D), 1), max(round(problem.kappa0 * D), 1)
    W0 = normal(seeds, "teacher of the map", (D, width)).to(device, dtype)
    w0 = normal(seeds, "teacher of the adapter", (D,)).to(device, dtype)
    w0 = w0 * math.sqrt(D) / w0.norm(dim=-1, keepdim=True)
    x = normal(seeds, "sequences", (count, T, D)).to(device, dtype)
    z = normal(seeds, "noise", (count, T, T)).to(device, dtype)
    S0 = W0 @ W0.mT / math.sqrt(width)
    y = activate(bilinear(S0, x) + math.sqrt(problem.noise) * z, attention)
    return Instance(problem, attention, S0, w0, x, z, y, tuple(seeds))


def normal(seeds: Sequence[int], purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers that depend on the seed and the purpose only, shape ``[seeds, *shape]``.

    Raises:
        LorateError: they are more than any simulation here needs.
    """
    needed = 8 * len(seeds) * math.prod(shape)
    if needed > LARGEST:
        raise LorateError(
            f"the {purpose} of {len(seeds)} instances take {needed / 1e9:,.0f} GB, {LARGEST / 1e9:.0f} GB are allowed: "
            "choose a smaller dimension or alpha, or fewer instances."
        )

    def draw(seed: int) -> Tensor:
        digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return torch.stack([draw(seed) for seed in seeds])


def bilinear(S: Tensor, x: Tensor) -> Tensor:
    """Centred attention x S x^T / D - (tr S / D) I, shape ``[seeds, N, T, T]``."""
    seeds, count, T, D = x.shape
    xS = (x.reshape(seeds, count * T, D) @ S).reshape(x.shape)
    trace = S.diagonal(dim1=-2, dim2=-1).sum(-1) / D
    return xS @ x.mT / D - trace[:, None, None, None] * torch.eye(T, dtype=x.dtype, device=x.device)


def bilinear_adjoint(R: Tensor, x: Tensor) -> Tensor:
    """Adjoint of `bilinear`, symmetrised: sum of R_ab x_a x_b^T / D minus its trace part, shape ``[seeds, D, D]``."""
    seeds, count, T, D = x.shape
    flat = x.reshape(seeds, count * T, D)
    total = flat.mT @ (R @ x).reshape(flat.shape) / D
    trace = R.diagonal(dim1=-2, dim2=-1).sum((-1, -2)) / D
    eye = torch.eye(D, dtype=x.dtype, device=x.device)
    return (total + total.mT) / 2 - trace[:, None, None] * eye


def loss_gradient(A: Tensor, y: Tensor, attention: AttentionName) -> Tensor:
    """Gradient of ||sigma(A) - y||_F^2 in A, the shape of A."""
    p = activate(A, attention)
    residual = p - y
    if attention == "linear":
        return 2 * residual / A.shape[-1]
    return 2 * p * (residual - (p * residual).sum(-1, keepdim=True))


def rank_one(w: Tensor, x: Tensor, centred: bool) -> Tensor:
    """Attention of adapters, (x w)(x w)^T / D, minus (|w|^2 / D) I where centred.

    Args:
        w: shape ``[seeds, D]``.
        x: shape ``[seeds, N, T, D]``.
        centred: subtract the mean.
    """
    D, T = x.shape[-1], x.shape[-2]
    chi = torch.einsum("sntd,sd->snt", x, w) / math.sqrt(D)
    mean = (w * w).sum(-1)[:, None, None, None] / D if centred else torch.zeros(1, dtype=x.dtype, device=x.device)
    return chi[..., :, None] * chi[..., None, :] - mean * torch.eye(T, dtype=x.dtype, device=x.device)
