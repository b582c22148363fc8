"""Bounds hold on random problems, the first-step estimate is unbiased, dropout is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture, first_step_squared_norm, lower_bound, upper_bound

from .models import CASES, floating, loss_of


@given(
    rows=st.integers(1, 10),
    out_dim=st.integers(1, 8),
    in_dim=st.integers(1, 8),
    rank=st.integers(1, 5),
    log_scaling=st.floats(-3, 3),
    log_size=st.floats(-6, 6),
    rank_one=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=1000, deadline=None)
def test_bounds_hold(
    rows: int, out_dim: int, in_dim: int, rank: int, log_scaling: float, log_size: float, rank_one: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dY, X, A, B = draw(rows, out_dim), 10**log_size * draw(rows, in_dim), draw(rank, in_dim), draw(out_dim, rank)
    if rank_one:  # the cases of equality
        X, A = X[:1].expand(rows, in_dim), X[:1].expand(rank, in_dim)
        dY = dY[:1].expand(rows, out_dim)
    s = 10**log_scaling
    G = dY.T @ X
    norm, slack = G.norm().item(), 1 + 1e-12
    assert lower_bound(s * G @ A.T, A, s).item() <= norm * slack
    assert lower_bound(s * B.T @ G, B, s).item() <= norm * slack
    assert norm <= upper_bound(dY, X).item() * slack
    if rank_one:
        assert lower_bound(s * G @ A.T, A, s).item() == pytest.approx(norm, rel=1e-9)
        assert upper_bound(dY, X).item() == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_lower_bound_holds_on_models(name: str) -> None:
    model, x = CASES[name]()
    model.double()
    pairs = find_pairs(model)
    with GradientCapture(pairs, method="exact") as capture:
        loss_of(model, floating(x, torch.float64)).backward()
    for pair, norm in zip(pairs, capture.norms(), strict=True):
        for grad, other in ((pair.B.grad, pair.A), (pair.A.grad, pair.B)):
            bound = lower_bound(grad, other, pair.scaling, pair.dropout)
            assert 0 < bound <= norm * (1 + 1e-12)


def test_zero_factor_says_nothing() -> None:
    assert lower_bound(torch.zeros(3, 2), torch.zeros(2, 4), scaling=1.0) == 0


def test_first_step_estimate_is_unbiased() -> None:
    torch.manual_seed(0)
    G = torch.randn(6, 20, dtype=torch.float64)
    r, s, d = 4, 0.5, 20
    estimates = []
    for _ in range(3000):
        layer = torch.nn.Linear(d, r, bias=False, dtype=torch.float64)  # PEFT's lora_A, with its default draw
        estimates.append(first_step_squared_norm(s * G @ layer.weight.T, r, d, s))
    samples = torch.stack(estimates)
    error = (samples.mean() - G.square().sum()).abs()
    assert error < 4 * samples.std() / 3000**0.5
    assert samples.std() < samples.mean()


def test_dropout_is_refused() -> None:
    one = torch.ones(1, 1)
    for call in (
        lambda: lower_bound(one, one, 1.0, dropout=0.1),
        lambda: upper_bound(one, one, dropout=0.1),
        lambda: first_step_squared_norm(one, 1, 1, 1.0, dropout=0.1),
    ):
        with pytest.raises(LorateError, match=r"lora_dropout=0, not 0\.1"):
            call()


def test_zero_scaling_is_refused() -> None:
    with pytest.raises(LorateError, match="scaling is 0"):
        first_step_squared_norm(torch.ones(1, 1), 1, 1, 0.0)
