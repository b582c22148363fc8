"""The posterior mean of the adapter at finite dimension, by approximate message passing (linear attention)."""

import math

import torch
from torch import Tensor

from lorate_papers.attention.arguments import check
from lorate_papers.attention.bayes import posterior_mean
from lorate_papers.attention.simulation.finetune import FinetuningData, spectral_starts


def posterior_adapter(
    data: FinetuningData, noise: float, start: Tensor | None = None, iterations: int = 40, damping: float = 0.3
) -> Tensor:
    r"""Estimate $\langle w\rangle$ when the frozen map's mistakes act as Gaussian noise of a known variance.

    Fields and weights are updated in turn, with the Onsager term that keeps the fields independent of the
    sequences they come from. Its fixed point in high dimension is `lorate_papers.attention.bayes_overlap`. With few
    data it has others: at alpha = 0.5 and D = 200 two of six instances reached one from the leading eigenvector, and
    none from the adapter that `finetune_adapter` trains.

    Args:
        data: sequences and labels, centred, linear attention, teacher of squared norm D.
        noise: the effective noise.
        start: weights to start from, shape ``[seeds, D]``; without them the leading eigenvector of the data.
        iterations: of message passing.
        damping: share of the old weights that is kept.

    Returns:
        Posterior means, shape ``[seeds, D]``.

    Raises:
        LorateError: the noise is not positive.
    """
    check("noise", noise, above=0)
    T, D = data.x.shape[-2:]
    eye = torch.eye(T, dtype=data.x.dtype)
    found, starts = [], spectral_starts(data) if start is None else start
    for x, offset, y, w in zip(data.x, data.offset, data.y, starts, strict=True):
        B = T * (y + y.mT) / 2 - offset + eye  # the teacher's mean, q0 = 1, is known
        values, vectors = torch.linalg.eigh(B)
        force, variance = torch.zeros_like(x[..., 0]), 0.5
        for _ in range(iterations):
            field = (vectors.mT @ (x @ w / math.sqrt(D) - variance * force)[..., None])[..., 0]
            mean = torch.as_tensor(posterior_mean(values.T.numpy(), field.T.numpy(), variance, noise).T)
            force = (vectors @ ((mean - field) / variance)[..., None])[..., 0]
            information = float(force.square().sum()) / D
            pulled = w + torch.einsum("ntd,nt->d", x, force) / math.sqrt(D) / information
            w = damping * w + (1 - damping) * pulled * information / (1 + information)
            variance = 1 / (1 + information)
        found.append(w)
    return torch.stack(found)
