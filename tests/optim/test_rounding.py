"""The majorizer where P and Q are rounding: least squares that one step solves, and directions that cancel."""

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lorate
from lorate.descent import length_from_above, majorizer_change
from lorate.geometry import displacement_gram, squared_norms
from lorate.measurement import Displacement, Measurement
from lorate.rules import Backtracking, Majorizer, StepSizes
from lorate.rules.majorizer import quartic_terms, terms_of_step

PRECISION = {torch.float32: 4e-6, torch.float64: 1e-14}


class LeastSquares:
    """8 inputs, ``outputs`` outputs, rank 4 (enough for every minimum), from the zero weight or a random one."""

    def __init__(self, seed: int, inputs: str, dtype: torch.dtype, outputs: int = 1) -> None:
        torch.manual_seed(seed)
        x = torch.eye(8, dtype=torch.float64)
        if inputs == "standardised":
            x = torch.randn(40, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
            x = (x - x.mean(0)) / x.std(0, correction=0)
        y = torch.randn(len(x), outputs, dtype=torch.float64)
        self.x, self.y = x.to(dtype), y.to(dtype)
        base = nn.Sequential(nn.Linear(8, outputs, bias=False)).to(dtype)
        config = peft.LoraConfig(r=4, target_modules=["0"])
        self.model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
        self.L = float(torch.linalg.matrix_norm(x, 2) ** 2) / len(x)
        residual = x @ torch.linalg.lstsq(x, y).solution - y
        self.best = float(residual.square().sum()) / (2 * len(x))

    def descend(self, rule: lorate.Rule, steps: int) -> tuple[np.ndarray, list[str | None], float]:
        """Losses at ``steps + 1`` points, why steps were skipped, and the largest step."""
        optimizer = lorate.create_optimizer(self.model, rule)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (self.model(self.x) - self.y).square().sum() / (2 * len(self.x))
            loss.backward()
            return loss

        losses, skipped, longest = [], [], 0.0
        for _ in range(steps):
            losses.append(optimizer.step(closure).item())
            skipped.append(optimizer.last.skipped)
            longest = max(longest, optimizer.last.eta)
        return np.array([*losses, closure().item()]), skipped, longest


def check(seed: int, inputs: str, dtype: torch.dtype, rule: type[Majorizer], per_layer: bool, outputs: int) -> None:
    problem = LeastSquares(seed, inputs, dtype, outputs)
    chosen = rule(problem.L, per_layer=per_layer) if rule is Majorizer else rule(per_layer=per_layer)
    losses, skipped, longest = problem.descend(chosen, 25)
    rounding = 16 * torch.finfo(dtype).eps * losses[0]
    assert np.diff(losses).max() <= rounding, (seed, "rises")
    assert all(word is None for word in skipped) or losses[-1] <= problem.best + 100 * rounding, (seed, "stands still")
    assert longest < 1e3, (seed, "leaps")


def test_a_problem_that_one_step_solves_along_its_gradient_is_solved_to_the_end() -> None:
    """The first step is exact, so that Q of the second is 0, and computed it was rounding: 29 of 30 steps skipped."""
    losses, skipped, _ = LeastSquares(3, "whitened", torch.float64).descend(Majorizer(1 / 8), 30)
    assert skipped[:5] == [None] * 5 and losses[-1] < 1e-12 * losses[0]


@pytest.mark.parametrize("rule", [Majorizer, Backtracking])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_least_squares_problem_stands_still_or_rises(rule: type[Majorizer], dtype: torch.dtype) -> None:
    for seed in range(10):
        check(seed, ("whitened", "standardised")[seed % 2], dtype, rule, seed % 3 > 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("rule", [Majorizer, Backtracking])
@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", ["whitened", "standardised"])
def test_200_seeds(inputs: str, dtype: torch.dtype, rule: type[Majorizer], per_layer: bool, outputs: int) -> None:
    for seed in range(200):
        check(seed, inputs, dtype, rule, per_layer, outputs)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kind=st.sampled_from(["any", "cancelling P", "cancelling Q", "ones"]),
    left=st.sampled_from([0.0, 1e-7, 1e-4, 1e-2]),
    n=st.sampled_from([1, 8, 300]),
    eta=st.floats(-6, 9),
)
def test_the_computed_displacement_is_never_shorter_than_the_true_one(
    seed: int, dtype: torch.dtype, kind: str, left: float, n: int, eta: float
) -> None:
    """|ηP + η²Q|² from Gram matrices that were rounded, against dense matrices of twice the digits."""
    g = torch.Generator().manual_seed(seed)
    r = 1 + seed % 4
    draw = torch.ones if kind == "ones" else lambda *shape: torch.randn(*shape, generator=g)
    A, B, D_A, D_B = draw(1, r, n) * 1.1, draw(1, n, r) * 0.7, draw(1, r, n) * 1.3, draw(1, n, r) * 0.77
    if kind == "cancelling P":  # a change of basis within the adapter moves no weight to first order
        M = torch.randn(1, r, r, generator=g)
        D_A, D_B = left * D_A - M @ A, left * D_B + B @ M
    if kind == "cancelling Q":
        D_B = D_B - (1 - left) * D_B @ D_A @ torch.linalg.pinv(D_A)
    A, B, D_A, D_B = (x.to(dtype) for x in (A, B, D_A, D_B))
    gram = displacement_gram([A], [B], [D_A], [D_B], [2.0])
    lengths = squared_norms([A, B, D_A, D_B]).numpy()[:, None]
    pp, pq, qq = (x.double().numpy() for x in (gram.pp, gram.pq, gram.qq))
    zero, one = np.zeros(1), np.ones(1)
    d = Displacement(zero, pp, pq, qq, zero, lengths[2], lengths[3], one, precision=PRECISION[dtype])
    m = Measurement(2 * one, lengths[0], lengths[1], zero, zero, displacement=d)
    wide = [np.asarray(x[0], dtype=np.longdouble) for x in (A, B, D_A, D_B)]
    a, b, d_a, d_b = wide
    step = np.longdouble(10.0) ** eta
    moved = 2 * (step * (d_b @ a + b @ d_a) + step**2 * (d_b @ d_a))
    _, _, pp, pq, qq = (float(x[0]) for x in quartic_terms(m))
    assert pq**2 <= pp * qq * (1 + 1e-12)
    terms = terms_of_step(m, StepSizes(10.0**eta, 10.0**eta * one, 0.0), 1.0)
    bound = float(majorizer_change(1.0, *terms, smoothness=2.0))
    # float64 dense sums are themselves rounded where longdouble is no wider
    assert bound >= float(np.sum(moved**2)) * (1 - 1e-9)


def test_what_is_added_is_small_beside_the_terms() -> None:
    assert float(length_from_above(1.0, 1.0, 4e-6)) == pytest.approx(1.0, rel=1e-5)
    assert float(length_from_above(-1e-20, 0.0, 4e-6)) == 0.0
