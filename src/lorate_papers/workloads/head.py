"""Fit the last layer of a classifier on frozen features, as a linear probe."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate_papers.workloads.tensor_workload import TensorWorkload, evaluating, examples, select


def fit_head(workload: TensorWorkload, head: nn.Linear, *, count: int, penalty: float = 0.1) -> None:
    r"""Give the template of a workload the last layer that is best for its features, in place.

    Minimises mean cross-entropy plus $\lambda\|W\|_F^2$ over weights and bias, in features scaled to mean 0 and
    variance 1, by L-BFGS: a convex problem, so the outcome depends on the data alone.

    Args:
        workload: with labels.
        head: the layer, a part of ``workload.template``.
        count: the first so many training examples are used, or all if there are fewer.
        penalty: $\lambda$.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].detach().flatten(1))

    handle = head.register_forward_pre_hook(keep)
    places = torch.arange(min(count, examples(workload.train)))
    try:
        with evaluating(workload.template):
            for part in torch.split(places, workload.chunk):
                workload.loss(workload.template, select(workload.train, part))
    finally:
        handle.remove()
    features = torch.cat(seen)
    mean, scale = features.mean(0), features.std(0).clamp_min(1e-6)
    weight, bias = probe((features - mean) / scale, workload.train["labels"][places], head.out_features, penalty)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - (weight / scale) @ mean)


def probe(features: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights ``[classes, features]`` and bias ``[classes]`` of the penalised logistic regression."""
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
