"""Exact norms against the dense matrix, and against autograd on the frozen weights of every kind of layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lorate.adapters import factor_blocks, find_pairs
from lorate.gradient_norm import GradientCapture, gram_is_cheaper
from lorate.gradient_norm.exact import cancels, gram_squares

from .models import CASES, adapt, floating, loss_of, norms_of, spectral_bounds, thaw

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@given(rows=st.integers(1, 12), out_dim=st.integers(1, 9), in_dim=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_gram_matrices_give_the_norm_of_the_matrix(rows: int, out_dim: int, in_dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    dY = torch.randn(rows, out_dim, generator=generator, dtype=torch.float64)
    X = torch.randn(rows, in_dim, generator=generator, dtype=torch.float64)
    G = dY.T @ X
    assert gram_squares(dY, X)[0].item() == pytest.approx(G.square().sum().item(), rel=1e-10, abs=1e-12)


def test_gram_is_chosen_below_the_break_even() -> None:
    rows = [n for n in range(1, 30) if gram_is_cheaper(n, 12, 60)]
    assert rows == list(range(1, 10))  # 12 * 60 / 72 = 10
    for n in rows:
        assert n * n * 72 < n * 12 * 60  # products
        assert n * 72 < 12 * 60  # numbers kept


def test_cancelling_rows_are_noticed() -> None:
    """Two rows that cancel to 1e-4: the Gram sum alone would keep no digit in float32."""
    torch.manual_seed(0)
    x, dy = torch.randn(1, 64), torch.randn(1, 64)
    X = torch.cat([x, x])
    dY = torch.cat([dy, -dy * (1 - 2.0**-13)])
    truth = (dY.double().T @ X.double()).norm().item()
    square, rows = gram_squares(dY, X)
    assert abs(square.clamp(min=0).sqrt().item() / truth - 1) > 1e-3
    assert cancels(square, rows)
    assert not cancels(*gram_squares(dY.abs(), X))


@pytest.mark.parametrize("rows", [127, 128, 129, 300, 512, 517])
def test_gram_matrices_in_parts(rows: int) -> None:
    torch.manual_seed(0)
    dY, X = torch.randn(rows, 7, dtype=torch.float64), torch.randn(rows, 5, dtype=torch.float64)
    square, own = gram_squares(dY, X)
    torch.testing.assert_close(square, (dY.T @ X).square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(own, (dY.square().sum(1) * X.square().sum(1)).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("settle_by_hand", [False, True])
def test_a_layer_whose_rows_cancel_is_in_doubt_until_it_is_settled(
    settle_by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorate.gradient_norm.capture.SPECTRAL_LIMIT", 5)  # bounds are Frobenius norms then
    torch.manual_seed(0)
    model = adapt(nn.ModuleDict({"cancels": nn.Linear(40, 50), "adds": nn.Linear(40, 50)}), ["cancels", "adds"])
    layers = model.base_model.model
    pairs, x, v = find_pairs(model), torch.randn(1, 40).expand(2, 40), torch.randn(50)
    weights = thaw(pairs)
    with GradientCapture(pairs, method="exact") as capture:
        y = layers["cancels"](x)
        ((y[0] - (1 - 1e-4) * y[1]) @ v + layers["adds"](x).sum()).backward()
    numbers = capture.numbers()
    assert numbers["doubt"].tolist() == [True, False]
    assert abs(numbers["norm"][0] / norms_of(weights)[0] - 1) > 0.01
    if settle_by_hand:
        capture.settle([True, False])
        assert capture.numbers()["doubt"].tolist() == [False, False]
    else:
        torch.testing.assert_close(spectral_bounds(capture), norms_of(weights), rtol=1e-3, atol=0)
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_autograd(name: str, dtype: torch.dtype) -> None:
    model, x = CASES[name]()
    model.to(dtype)
    pairs = find_pairs(model)
    weights = thaw(pairs)
    with GradientCapture(pairs, method="exact") as capture:
        loss_of(model, floating(x, dtype)).backward()
    expected = norms_of(weights)
    assert expected.min() > 0
    norms = capture.norms()
    assert norms.dtype == dtype
    torch.testing.assert_close(norms, expected, rtol=TOLERANCE[dtype], atol=0)
    largest = torch.stack([torch.linalg.matrix_norm(w.grad.flatten(1), ord=2) for w in weights])
    torch.testing.assert_close(spectral_bounds(capture), largest, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_frozen_first_layer_is_seen(name: str) -> None:
    """With frozen weights the input of the first layer needs no gradient; its norm is the same all the same."""
    model, x = CASES[name]()
    model.double().eval()
    x = floating(x, torch.float64)
    pairs = find_pairs(model)
    with GradientCapture(pairs, method="exact") as capture:
        loss_of(model, x).backward()
    assert all(pair.layer.base_layer.weight.grad is None for pair in pairs)
    weights = thaw(pairs)
    model.zero_grad()
    loss_of(model, x).backward()
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=1e-10, atol=0)


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_convolution_is_the_gradient_of_the_dense_kernel(groups: int) -> None:
    torch.manual_seed(0)
    base = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=False)
    model = adapt(torch.nn.Sequential(base), ["0"], r=4).double()
    (pair,) = find_pairs(model)
    x = torch.randn(3, 4, 7, 7, dtype=torch.float64)

    A, B = factor_blocks(pair.A.detach(), pair.B.detach(), groups)
    update = pair.scaling * (B @ A).reshape(8, 4, 3, 3)
    kernel = torch.zeros(8, 4, 3, 3, dtype=torch.float64)
    for g in range(groups):
        out, into = slice(g * 8 // groups, (g + 1) * 8 // groups), slice(g * 4 // groups, (g + 1) * 4 // groups)
        kernel[out, into] = base.weight.detach()[out]
    kernel = (kernel + update).requires_grad_(True)
    (F.conv2d(x, kernel, stride=2, padding=1).flatten(1).cumsum(1) / 5).sin().sum().backward()
    G = kernel.grad
    assert G is not None

    for method in ("exact", "sketch"):
        with GradientCapture([pair], method=method, probes=20_000) as capture:
            loss_of(model, x).backward()
        torch.testing.assert_close(
            capture.norms(), G.norm().reshape(1), rtol=1e-10 if method == "exact" else 0.03, atol=0
        )
    # and gB is made of its blocks: twice, for the two backward passes
    blocks = G.reshape(groups, 8 // groups, -1)
    gB = 2 * pair.scaling * blocks @ A.transpose(1, 2)
    torch.testing.assert_close(pair.B.grad.reshape_as(gB), gB)
