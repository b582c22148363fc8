"""Rank-one fine-tuning at finite dimension: the adapter that minimises the training loss, from the recommended starts.

The loss is not convex. The search runs from the leading eigenvector of the data, from the teacher and from random
points, and the lowest loss is kept, so that the result is the minimiser which the theory describes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate_papers.attention.arguments import check
from lorate_papers.attention.finetuning import Finetuning
from lorate_papers.attention.simulation.data import (
    AttentionName,
    Instance,
    activate,
    bilinear,
    bilinear_adjoint,
    loss_gradient,
    normal,
    rank_one,
)
from lorate_papers.attention.simulation.lbfgs import minimise

STARTS = ("spectral", "informed", "random", "another random")


@dataclass(frozen=True)
class FinetuningData:
    """What the adapter is trained on."""

    x: Tensor  # sequences, shape ``[seeds, N', T, D]``
    offset: Tensor  # attention of the frozen map, shape ``[seeds, N', T, T]``
    y: Tensor  # labels, shape ``[seeds, N', T, T]``
    w0: Tensor  # teacher of the adapter, shape ``[seeds, D]``
    attention: AttentionName  # the attention function
    seeds: tuple[int, ...]  # of the random starts


@dataclass(frozen=True)
class Finetuned:
    """Trained adapters."""

    w: Tensor  # the best of all starts, shape ``[seeds, D]``
    losses: Tensor  # regularised training loss from every start, shape ``[seeds, starts]``
    overlaps: Tensor  # |cosine| with the teacher from every start, shape ``[seeds, starts]``
    q: Tensor  # |w|^2 / D, shape ``[seeds]``
    m: Tensor  # |w . w0| / D, shape ``[seeds]``

    @property
    def overlap(self) -> Tensor:
        """|cosine| of the best adapter with its teacher, shape ``[seeds]``."""
        best = self.losses.argmin(-1, keepdim=True)
        return self.overlaps.gather(-1, best)[:, 0]


def finetuning_data(
    instance: Instance,  # the first stage
    S: Tensor,  # the frozen map, recalibrated if it is to be, shape ``[seeds, D, D]``
    alpha: float,  # sequences over the dimension; N' = alpha D is rounded
    *,
    reused: bool = False,  # take the first N' sequences of pre-training, with their noise
    fresh_noise: bool = False,  # with ``reused``, draw new noise for their labels
    # keep from a pool of N' / fraction fresh sequences those of smallest predicted attention
    fraction: float | None = None,
    centred: bool = True,  # the teacher's mean is subtracted from the attention
) -> FinetuningData:
    """Sequences and labels for the second stage.

    Raises:
        LorateError: more sequences are to be reused than there are; alpha or the fraction is out of its range.
    """
    D, T, seeds = instance.dimension, instance.problem.tokens, instance.seeds
    check("alpha", alpha, above=0)
    count = max(round(alpha * D), 1)
    if reused:
        if count > instance.x.shape[1]:
            raise LorateError(
                f"{count} sequences are to be reused, and pre-training has {instance.x.shape[1]}: take a smaller "
                "finetune_alpha, or a larger alpha or dimension"
            )
        x, z = instance.x[:, :count], instance.z[:, :count]
    else:
        x = _choose(instance, S, count, fraction)
        z = None
    if z is None or fresh_noise:
        z = normal(seeds, "noise of fine-tuning", (count, T, T)).to(x)
    clean = bilinear(instance.S0, x) + rank_one(instance.w0, x, centred)
    y = activate(clean + math.sqrt(instance.problem.noise) * z, instance.attention)
    return FinetuningData(x, bilinear(S, x), y, instance.w0, instance.attention, seeds)


def gaussian_data(
    problem: Finetuning, dimension: int, seeds: tuple[int, ...], device: str | torch.device = "cpu"
) -> FinetuningData:
    """Fine-tuning alone, linear attention: the frozen map's mistakes are drawn as Gaussian matrices.

    Args:
        problem: its ``effective_noise`` is the variance drawn.
        dimension: D.
        seeds: one instance a seed.
        device: where the tensors live.
    """
    T, count = problem.tokens, max(round(problem.alpha * dimension), 1)
    w0 = normal(seeds, "teacher of the adapter", (dimension,)).to(device)
    w0 = w0 * math.sqrt(problem.q0 * dimension) / w0.norm(dim=-1, keepdim=True)
    x = normal(seeds, "sequences of fine-tuning", (count, T, dimension)).to(device)
    z = normal(seeds, "noise of fine-tuning", (count, T, T)).to(device)
    noise = math.sqrt(problem.effective_noise / 2) * (z + z.mT)
    y = (rank_one(w0, x, problem.centred) + noise) / T
    return FinetuningData(x, torch.zeros_like(y), y, w0, "linear", seeds)


def finetune_adapter(
    data: FinetuningData, lam: float, centred: bool = True, max_iterations: int = 300, tolerance: float = 1e-7
) -> Finetuned:
    """Minimise the loss over w from every start, all seeds and starts at once.

    Args:
        data: what to train on.
        lam: weight decay lambda'.
        centred: the adapter's own mean is subtracted from the attention.
        max_iterations: of L-BFGS.
        tolerance: length of the gradient relative to the first one that stops a search.

    Raises:
        LorateError: the weight decay is negative or not finite.
    """
    check("lam", lam, at_least=0)
    seeds, _, T, D = data.x.shape
    eye = torch.eye(T, dtype=data.x.dtype, device=data.x.device)

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        w = flat.reshape(seeds, -1, D)
        chi = torch.einsum("sntd,skd->sknt", data.x, w) / math.sqrt(D)
        mean = (w * w).sum(-1)[..., None, None, None] / D if centred else 0.0
        A = data.offset[:, None] + chi[..., :, None] * chi[..., None, :] - mean * eye
        y = data.y[:, None]
        value = (activate(A, data.attention) - y).square().sum((-1, -2, -3)) + lam * (w * w).sum(-1)
        G = loss_gradient(A, y, data.attention)
        force = ((G + G.mT) @ chi[..., None])[..., 0]
        gradient = torch.einsum("sknt,sntd->skd", force, data.x) / math.sqrt(D) + 2 * lam * w
        if centred:
            gradient = gradient - 2 / D * G.diagonal(dim1=-2, dim2=-1).sum((-1, -2))[..., None] * w
        return value.reshape(-1), gradient.reshape(flat.shape)

    found = minimise(objective, _starts(data).reshape(-1, D), max_iterations, tolerance)
    w, losses = found.x.reshape(seeds, -1, D), found.value.reshape(seeds, -1)
    along = torch.einsum("skd,sd->sk", w, data.w0).abs()
    norms = w.norm(dim=-1) * data.w0.norm(dim=-1)[:, None]
    row = torch.arange(seeds, device=w.device)
    best = losses.argmin(-1)
    chosen = w[row, best]
    return Finetuned(chosen, losses, along / norms, (chosen * chosen).sum(-1) / D, along[row, best] / D)


def clean_error(
    instance: Instance, S: Tensor, w: Tensor | None = None, centred: bool = True, count: int = 2000
) -> Tensor:
    """Test error on noise-free labels of fresh sequences, shape ``[seeds]``.

    Args:
        instance: the teachers.
        S: the frozen map, shape ``[seeds, D, D]``.
        w: the adapter, shape ``[seeds, D]``; None measures the first stage.
        centred: as in fine-tuning.
        count: sequences to average over.
    """
    D, T = instance.dimension, instance.problem.tokens
    x = normal(instance.seeds, "sequences of the test", (count, T, D)).to(instance.x)
    student, teacher = bilinear(S, x), bilinear(instance.S0, x)
    if w is not None:
        student = student + rank_one(w, x, centred)
        teacher = teacher + rank_one(instance.w0, x, centred)
    difference = activate(student, instance.attention) - activate(teacher, instance.attention)
    return difference.square().sum((-1, -2)).mean(-1)


def spectral_starts(data: FinetuningData) -> Tensor:
    """Leading direction of what the data pulls towards, with half the teacher's squared norm, shape ``[seeds, D]``."""
    pull = -loss_gradient(data.offset, data.y, data.attention)
    leading: Tensor = torch.linalg.eigh(bilinear_adjoint(pull, data.x))[1][..., -1]
    return leading * math.sqrt(data.x.shape[-1] / 2)


def _choose(instance: Instance, S: Tensor, count: int, fraction: float | None) -> Tensor:
    """Fresh sequences; with a fraction, those of a larger pool whose predicted attention is smallest."""
    T, D = instance.problem.tokens, instance.dimension
    if fraction is not None:
        check("fraction", fraction, above=0, at_most=1)
    pool = count if fraction is None else round(count / fraction)
    x = normal(instance.seeds, "sequences of fine-tuning", (pool, T, D)).to(instance.x)
    if fraction is None:
        return x
    size = bilinear(S, x).square().sum((-1, -2))
    chosen = size.argsort(-1)[:, :count]
    return x.gather(1, chosen[:, :, None, None].expand(-1, -1, T, D))


def _starts(data: FinetuningData) -> Tensor:
    """Start points in the order of `STARTS`, shape ``[seeds, starts, D]``."""
    random = normal(data.seeds, "random starts", (2, data.x.shape[-1])).to(data.x)
    return torch.cat([spectral_starts(data)[:, None], data.w0[:, None], random / math.sqrt(2)], 1)
