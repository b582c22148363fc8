import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import (
    SHARP_FRACTION,
    THEORY_FRACTION,
    StepGuarantee,
    bounded_rate_bound,
    gradient_bound,
    paper_log_bound,
    rate_bound,
    sharp_guarantee,
    sharp_step_size,
    stacked_norm_bound,
    sum_eta_bound,
    theory_guarantee,
    theory_step_size,
)
from lorate.errors import LorateError

from .lora_problems import SEEDS, Array, Problems, column, draw, spectral, squares


class Descent:
    """LoRA gradient descent on convex losses of one layer with Loss* = 0; many problems at once."""

    def __init__(self, rule: str, smoothness: float, loss: str, steps: int, seed: int, problems: int = 40) -> None:
        rng = np.random.default_rng(seed)
        m, n, r = 4, 3, 2
        self.L = smoothness
        spread = 10.0 ** rng.uniform(-2, 1, (problems, 1, 1))
        A, B = spread * rng.standard_normal((problems, r, n)), spread * rng.standard_normal((problems, m, r))
        B[rng.random(problems) < 0.5] = 0.0
        weight = rng.random((problems, m, n))  # curvatures of the entries of W
        weight /= weight.max(axis=(1, 2), keepdims=True)
        target = rng.standard_normal((problems, m, n)) * 10.0 ** rng.uniform(-1, 1, (problems, 1, 1))

        def value_and_gradient(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if loss == "quadratic":
                x = W - target
                return self.L / 2 * np.sum(weight * x**2, axis=(1, 2)), self.L * weight * x
            z = W * np.sign(target)  # logistic: the infimum is at infinity, so norms grow without bound
            terms = np.logaddexp(0, -z)
            return 4 * self.L * np.sum(weight * terms, axis=(1, 2)), -4 * self.L * weight * np.sign(target) / (
                1 + np.exp(z)
            )

        self.norms, self.eta, self.grad_sq, self.values, self.G = [], [], [], [], []
        for _ in range(steps):
            J, G = value_and_gradient(B @ A)
            g_A, g_B = B.swapaxes(1, 2) @ G, G @ A.swapaxes(1, 2)
            norm_sq = np.sum(A**2, axis=(1, 2)) + np.sum(B**2, axis=(1, 2))
            G_norm = np.linalg.norm(G, axis=(1, 2))
            if rule == "theory":
                eta = theory_step_size(norm_sq, G_norm, self.L)
            else:
                eta = sharp_step_size(*(np.linalg.norm(x, 2, axis=(1, 2)) for x in (A, B, G)), self.L)
            self.values.append(J)
            self.norms.append(np.sqrt(norm_sq))
            self.eta.append(eta)
            self.grad_sq.append(np.sum(g_A**2, axis=(1, 2)) + np.sum(g_B**2, axis=(1, 2)))
            self.G.append(G_norm)
            A, B = A - eta[:, None, None] * g_A, B - eta[:, None, None] * g_B


RUNS = [
    (rule, L, loss)
    for rule in ("theory", "sharp")
    for L, loss in (
        (0.01, "quadratic"),
        (1.0, "quadratic"),
        (100.0, "quadratic"),
        (1.0, "logistic"),
        (0.05, "logistic"),
    )
]


@pytest.mark.parametrize(("rule", "L", "loss"), RUNS)
def test_theorems_hold_along_runs(rule: str, L: float, loss: str) -> None:
    steps = 1500
    run = Descent(rule, L, loss, steps, seed=7)
    make, kappa = {"theory": (theory_guarantee, THEORY_FRACTION), "sharp": (sharp_guarantee, SHARP_FRACTION)}[rule]
    norms, eta, grad_sq, G = (np.array(x) for x in (run.norms, run.eta, run.grad_sq, run.G))
    best = np.minimum.accumulate(grad_sq)
    total = np.cumsum(eta, axis=0)
    before = total - eta
    slack = 1 + 1e-9
    for problem in range(eta.shape[1]):
        gap = float(run.values[0][problem])
        guarantee = make(gap, float(norms[0, problem]), L)
        T = np.arange(1, steps + 1)
        # (i) the gradient against the sum of the steps, (ii) the growth of the norm, (iii) the gradient of the loss
        assert np.all(best[:, problem] <= gradient_bound(gap, total[:, problem], kappa) * slack)
        assert np.all(
            norms[:, problem] <= stacked_norm_bound(gap, norms[0, problem], before[:, problem], kappa) * slack
        )
        assert np.all(G[:, problem] <= math.sqrt(2 * L * gap) * slack)
        # (iv) the steps, and the rate
        assert np.all(1 / eta[:, problem] <= (guarantee.alpha + guarantee.beta * before[:, problem]) * slack)
        assert np.all(total[:, problem] >= sum_eta_bound(guarantee, T) / slack)
        assert np.all(best[:, problem] <= rate_bound(guarantee, T) * slack)
        if rule == "theory":
            assert np.all(best[:, problem] <= paper_log_bound(gap, norms[0, problem], L, T) * slack)
            assert np.all(best[:, problem] <= bounded_rate_bound(gap, norms[:, problem].max(), L, T) * slack)
            # the steps of the paper's general case: 1/eta_t <= alpha + beta t
            assert np.all(1 / eta[:, problem] <= (guarantee.alpha + guarantee.beta * (T - 1)) * slack)


def adversarial_descent(p: Problems, rule: str, steps: int) -> dict[str, Array]:
    """One step size for all layers, in the scaled factors; all numbers at the start of each step, [steps, problems]."""
    s, D_A, D_B = column(p.scaling), 0 * p.A, 0 * p.B
    found = defaultdict(list)
    for _ in range(steps):
        A, B, move = p.A + D_A, p.B + D_B, p.displacement(D_A, D_B)
        G = p.loss(move.reshape(len(A), -1))[2].reshape(move.shape)
        g_A, g_B = s * B.swapaxes(-1, -2) @ G, s * G @ A.swapaxes(-1, -2)
        norm_sq = np.sum(p.scaling * (squares(A) + squares(B)), axis=1)
        G_norm = np.sqrt(squares(G).sum(1))
        if rule == "theory":
            eta = theory_step_size(norm_sq, G_norm, p.smoothness)
        else:
            eta = (p.scaling * sharp_step_size(spectral(A), spectral(B), spectral(G), p.L, p.scaling)).min(axis=1)
            eta = np.where(np.isfinite(eta), eta, 1.0)  # nothing moves
        grad_sq = np.sum((squares(g_A) + squares(g_B)) / p.scaling, axis=1)
        for name, value in (("norm", np.sqrt(norm_sq)), ("G", G_norm), ("eta", eta), ("grad_sq", grad_sq)):
            found[name].append(value)
        step = column(eta[:, None] / p.scaling)
        D_A, D_B = D_A - step * g_A, D_B - step * g_B
    return {name: np.array(values) for name, values in found.items()}


@settings(max_examples=24, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(["convex", "worst", "cosines"]), rule=st.sampled_from(["theory", "sharp"]))
def test_theorems_hold_from_the_first_steps_on_whatever_the_sizes(seed: int, kind: str, rule: str) -> None:
    """Several layers, any scaling, non-convex: where the constants decide, not the order of the rate."""
    p, steps = draw(seed, kind), 12
    run = adversarial_descent(p, rule, steps)
    norm, eta, gap, slack = run["norm"], run["eta"], p.gap, 1 + 1e-9
    make, kappa = {"theory": (theory_guarantee, THEORY_FRACTION), "sharp": (sharp_guarantee, SHARP_FRACTION)}[rule]
    each = [make(*map(float, values)) for values in zip(gap, norm[0], p.smoothness, strict=True)]
    guarantee = StepGuarantee(*(np.array([getattr(g, name) for g in each]) for name in ("alpha", "beta")), kappa, gap)
    best, total = np.minimum.accumulate(run["grad_sq"]), np.cumsum(eta, axis=0)
    T = np.arange(1, steps + 1)[:, None]
    assert np.all(best <= gradient_bound(gap, total, kappa) * slack)
    assert np.all(norm <= stacked_norm_bound(gap, norm[0], total - eta, kappa) * slack)
    assert np.all(run["G"] <= np.sqrt(2 * p.smoothness * gap) * slack)
    assert np.all(1 / eta <= (guarantee.alpha + guarantee.beta * (total - eta)) * slack)
    assert np.all(total >= sum_eta_bound(guarantee, T) / slack)
    assert np.all(best <= rate_bound(guarantee, T) * slack)
    if rule == "theory":
        known = list(zip(gap, norm[0], norm.max(axis=0), p.smoothness, strict=True))
        assert np.all(1 / eta <= (guarantee.alpha + guarantee.beta * (T - 1)) * slack)
        paper = np.array([paper_log_bound(g, first, L, T[:, 0]) for g, first, _, L in known]).T
        bounded = np.array([bounded_rate_bound(g, largest, L, T[:, 0]) for g, _, largest, L in known]).T
        assert np.all(best <= paper * slack)
        assert np.all(best <= bounded * slack)


def test_orders_of_the_rates() -> None:
    T = np.array([1e12, 1e14])
    ours = rate_bound(theory_guarantee(1.0, 1.0, 1.0), T)
    assert ours[0] / ours[1] == pytest.approx(10, rel=1e-3)
    paper = paper_log_bound(1.0, 1.0, 1.0, T)
    assert 1 < paper[0] / paper[1] < 1.3
    bounded = bounded_rate_bound(1.0, 1.0, 1.0, T)
    assert bounded[0] / bounded[1] == pytest.approx(100)
    assert np.all(rate_bound(sharp_guarantee(1.0, 1.0, 1.0), T) < ours)


def test_square_root_is_below_the_logarithm_at_every_time() -> None:
    T = np.logspace(0, 15, 200)
    for gap, norm, L in ((1.0, 1.0, 1.0), (1e-3, 10.0, 1e4), (1e4, 0.0, 1e-3)):
        assert np.all(rate_bound(theory_guarantee(gap, norm, L), T) <= paper_log_bound(gap, norm, L, T) * (1 + 1e-12))


def test_edges() -> None:
    assert gradient_bound(1.0, 0.0, 0.5) == np.inf
    assert paper_log_bound(1.0, 1.0, 1.0, 0) == np.inf
    assert bounded_rate_bound(1.0, 1.0, 1.0, 0) == np.inf
    # before the first step nothing is known, even at the minimum
    assert bounded_rate_bound(0.0, 1.0, 1.0, 0) == np.inf
    assert rate_bound(sharp_guarantee(0.0, 1.0, 1.0), 0) == np.inf
    # without a guarantee nothing bounds the factors, but those that did not move
    np.testing.assert_array_equal(stacked_norm_bound(1.0, 3.0, [0.0, 8.0], 0.0), [3.0, np.inf])
    # at the minimum already: nothing grows, and the gradient is zero
    assert sum_eta_bound(sharp_guarantee(0.0, 1.0, 1.0), 10) == pytest.approx(5.0)
    assert rate_bound(sharp_guarantee(0.0, 1.0, 1.0), 10) == 0.0
    assert paper_log_bound(0.0, 1.0, 1.0, 10) == 0.0
    # tiny beta keeps its digits
    assert sum_eta_bound(StepGuarantee(1.0, 1e-30, 0.5, 1.0), 10) == pytest.approx(10.0)
    with_head = sharp_guarantee(1.0, 1.0, 3.0, other_parameters=True)
    assert with_head.alpha == sharp_guarantee(1.0, 1.0, 3.0).alpha + 3.0
    with pytest.raises(LorateError, match="positive finite"):
        sharp_guarantee(1.0, 1.0, 0.0)
    with pytest.raises(LorateError, match="gap"):
        theory_guarantee(-1.0, 1.0, 1.0)
