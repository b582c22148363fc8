"""LoRA's own gradients bound the norm from below: ``||gB|| / (s ||A||_2) <= ||G||``, from ``gB = s G A^T``."""

import pytest
import torch

from lorate.adapters import find_pairs
from lorate.gradient_norm import GradientCapture

from .models import CASES, floating, loss_of


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_the_norm_is_never_below_what_the_factors_say(name: str) -> None:
    """Of both factors: ``gA = s B^T G`` likewise; dropout lets them see another input."""
    model, x = CASES[name]()
    model.double()
    pairs = find_pairs(model)
    with GradientCapture(pairs, method="exact") as capture:
        loss_of(model, floating(x, torch.float64)).backward()
    for pair, norm in zip(pairs, capture.norms(), strict=True):
        for grad, other in ((pair.B.grad, pair.A), (pair.A.grad, pair.B)):
            bound = grad.norm() / (pair.scaling * torch.linalg.matrix_norm(other.detach().flatten(1), ord=2))
            assert 0 < bound <= norm * (1 + 1e-12)
