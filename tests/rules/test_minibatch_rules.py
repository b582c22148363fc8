"""Rules with a proof for mini-batches: their formulas, what they remember, and that they do not look at the batch."""

import math
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.descent import mean_square_bound
from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules import Alternate, Relative


def measurement(**changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "scaling": np.array([2.0, 0.5]),
        "A_sq": np.array([1.0, 4.0]),
        "B_sq": np.array([2.0, 0.0]),
        "A_grad_sq": np.array([0.3, 0.5]),
        "B_grad_sq": np.array([8.0, 1.0]),
        "A_spectral_sq": np.array([0.9, 3.0]),
        "B_spectral_sq": np.array([1.5, 0.0]),
        "rest_grad_sq": 4.0,
        "has_rest": True,
    }
    return Measurement(**{**values, **changes})


def test_relative_by_hand() -> None:
    sizes = Relative().step_sizes(measurement())
    # s(‖A‖² + ‖B‖²) = 4.8 and 1.5, and c the same at the start
    np.testing.assert_allclose(sizes.layers, [1 / (2 * 9.6), 1 / (0.5 * 3.0)])
    assert sizes.rest == 1.0 and sizes.guarantee is None


def test_relative_keeps_its_offsets_and_ignores_the_batch() -> None:
    rule = Relative()
    rule.step_sizes(measurement())
    grown = measurement(A_spectral_sq=np.array([90.0, 300.0]), A_grad_sq=np.array([1e9, 0.0]))
    np.testing.assert_allclose(
        rule.step_sizes(grown).layers, [1 / (2 * (182.8 + 4.8 + 0.2)), 1 / (0.5 * 151.5)], rtol=2e-3
    )
    again = Relative()
    again.load_state_dict(rule.state_dict())
    np.testing.assert_array_equal(again.step_sizes(grown).layers, rule.step_sizes(grown).layers)


def test_a_layer_at_the_origin_stays_there() -> None:
    zero = np.zeros(2)
    still = measurement(A_spectral_sq=zero, B_spectral_sq=zero, A_grad_sq=zero, B_grad_sq=zero, rest_grad_sq=0.0)
    for rule in (Relative(), Relative(adagrad=True), Alternate(1.0), Alternate()):
        sizes = rule.step_sizes(still)
        assert np.isfinite(sizes.layers).all() and math.isfinite(sizes.rest) and sizes.eta == 0


def test_adagrad_adds_up_relative_gradients() -> None:
    rule = Relative(adagrad=True)
    relative_sq = 8.3 / (2 * 9.6) + 1.5 / (0.5 * 3.0) + 4.0
    first = rule.step_sizes(measurement())
    assert first.rest == pytest.approx(1 / math.sqrt(101 * relative_sq))
    assert rule.step_sizes(measurement()).rest == pytest.approx(1 / math.sqrt(102 * relative_sq))
    again = Relative(adagrad=True)
    again.load_state_dict(rule.state_dict())
    assert again.step_sizes(measurement()).rest == pytest.approx(1 / math.sqrt(103 * relative_sq))


def test_alternate_by_hand() -> None:
    rule = Alternate(smoothness=4.0, order="turns")
    B, A = rule.step_sizes(measurement()), rule.step_sizes(measurement())
    np.testing.assert_allclose(B.layers, [[0, 0], [1 / (4 * 4 * 0.9), 1 / (4 * 0.25 * 3.0)]])
    np.testing.assert_allclose(
        A.layers, [[1 / (4 * 4 * 1.5), 0], [0, 0]]
    )  # B of the second layer is 0: A has no gradient
    assert B.rest == A.rest == 0.25
    assert B.guarantee == pytest.approx((8 / (4 * 0.9) + 1 / (0.25 * 3.0) + 4) / 8)


def test_the_coin_is_fair_the_same_everywhere_and_blind() -> None:
    one, other = Alternate(1.0), Alternate(1.0)
    B_moves = []
    for step in range(400):
        sizes = one.step_sizes(measurement(B_sq=np.ones(2), B_spectral_sq=np.ones(2)))
        seen = other.step_sizes(
            measurement(B_sq=np.ones(2), B_spectral_sq=np.ones(2), A_grad_sq=np.full(2, float(step)))
        )
        np.testing.assert_array_equal(sizes.layers, seen.layers)
        B_moves.append(sizes.layers[1] > 0)
        assert np.all((sizes.layers > 0).sum(axis=0) == 1)
    moves = np.array(B_moves)
    assert np.all(np.abs(moves.mean(axis=0) - 0.5) < 0.1)
    assert 0.35 < (moves[:, 0] == moves[:, 1]).mean() < 0.65  # of one layer and of the other apart
    restarted = Alternate(1.0)
    restarted.load_state_dict(one.state_dict())
    m = measurement(B_sq=np.ones(2), B_spectral_sq=np.ones(2))
    np.testing.assert_array_equal(restarted.step_sizes(m).layers, one.step_sizes(m).layers)


@pytest.mark.parametrize("c", [1e-3, 7.0])
@pytest.mark.parametrize("make", [Relative, lambda: Relative(adagrad=True), lambda: Alternate(2.0), Alternate])
def test_the_weights_do_not_depend_on_the_split_of_s(make: Any, c: float) -> None:
    m = measurement()
    other = measurement(
        scaling=m.scaling * c,
        A_sq=m.A_sq / c, B_sq=m.B_sq / c, A_grad_sq=m.A_grad_sq * c, B_grad_sq=m.B_grad_sq * c,
        A_spectral_sq=m.A_spectral_sq / c, B_spectral_sq=m.B_spectral_sq / c,
    )  # fmt: skip
    np.testing.assert_allclose(make().step_sizes(other).layers * c, make().step_sizes(m).layers, rtol=1e-12)


def test_bad_options_are_refused() -> None:
    with pytest.raises(LorateError, match="order must be 'coin' or 'turns', got 'both'"):
        Alternate(order="both")  # type: ignore[arg-type]
    with pytest.raises(LorateError, match="positive finite number"):
        lorate.create_optimizer(model_of(0), "alternate", smoothness=-1.0)
    with pytest.raises(LorateError, match="lr"):
        lorate.create_optimizer(model_of(0), "relative")


def model_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(6, 4, bias=False)).double()
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    return peft.get_peft_model(base, config, autocast_adapter_dtype=False)


def test_theorem_1_on_runs_of_the_optimizer() -> None:
    """Least squares with L = 1 and noise of known size in the weights; half of the sum over both factors."""
    steps, sigma, gamma = 60, 0.5, 0.3
    means, bounds = [], []
    target = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for seed in range(12):
        model = model_of(seed)
        optimizer = lorate.create_optimizer(model, Alternate(1.0, seed=seed), lr=gamma)
        A, B = (next(p for n, p in model.named_parameters() if side in n) for side in ("lora_A", "lora_B"))
        eye, s, seen = torch.eye(6, dtype=torch.float64), 3.0, []
        for _ in range(steps):
            W = model(eye).T
            G = (W - target).detach()
            noise = torch.randn(4, 6, dtype=torch.float64)
            noise *= sigma / noise.norm()
            with torch.no_grad():
                a, b = (torch.linalg.matrix_norm(x, 2) for x in (A, B))
                # s cancels: g = s G Aᵀ over n = s ‖A‖
                seen.append(float((G @ A.T).norm() / a) ** 2 + float((B.T @ G).norm() / b) ** 2)
            if not bounds or len(bounds) <= seed:
                bounds.append(float(mean_square_bound(float(G.square().sum()) / 2, 1.0, sigma, steps, gamma)))
            optimizer.zero_grad()
            (W * (G + noise)).sum().backward()
            optimizer.step(loss=float(G.square().sum()) / 2)
        means.append(np.mean(seen) / 2)
        assert s > 0
    assert np.mean(means) <= np.mean(bounds)
    assert np.mean(means) > 1e-3 * np.mean(bounds)


def test_alternate_descends_on_the_full_batch_by_what_it_says() -> None:
    model = model_of(0)
    target = torch.randn(4, 6, dtype=torch.float64)
    optimizer = lorate.create_optimizer(model, "alternate", smoothness=1.0)
    eye = torch.eye(6, dtype=torch.float64)

    def loss_of() -> torch.Tensor:
        return (model(eye).T - target).square().sum() / 2

    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step(loss=loss)
        assert optimizer.last is not None and optimizer.last.guarantee is not None
        assert loss.item() - loss_of().item() >= optimizer.last.guarantee - 1e-12
