import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lorate.errors import LorateError
from lorate_papers.attention import Finetuning, NotConverged, optimal_finetuning_decay, solve_finetuning
from lorate_papers.attention.convergence import settle
from lorate_papers.attention.proximal import prox, squared_norm
from lorate_papers.attention.samples import sobol, symmetric_gaussian
from lorate_papers.attention.state_evolution import FinetuningOrder, solve_from_all_starts

ROWS = [  # T, alpha', lambda', Delta_eff, cen; q, m, v, overlap, lambda'_eff, AT; loss; error beyond the map's
    ((3, 3, 0.5, 0.622326, 1), (0.93741, 0.95771, 0.07531, 0.98917, 0.47469, 0.16865), 0.7901, 0.0591),
    ((3, 3, 0.05, 0.695549, 1), (1.01578, 0.99581, 0.07697, 0.98805, 0.05176, 0.19340), 0.8753, 0.0647),
    ((2, 3, 1, 0.487237, 1), (0.86658, 0.91170, 0.07483, 0.97937, 0.90088, 0.23770), 0.6763, 0.1329),
    ((3, 1, 0.5, 0.1, 1), (0.69112, 0.81228, 0.28318, 0.97709, 0.43183, 0.26327), 0.1838, 0.2107),
    ((2, 5, 0.2, 1, 0), (1.01792, 0.98783, 0.04145, 0.97909, 0.2, 0.21417), 1.3989, 0.1270),
]  # fmt: skip


def solve(arguments: tuple[float, ...], points: int = 2**13) -> FinetuningOrder:
    T, alpha, lam, noise, centred = arguments
    return solve_finetuning(Finetuning(alpha, lam, noise, int(T), bool(centred)), points)


@pytest.mark.parametrize(("arguments", "order", "loss", "error"), ROWS)
@pytest.mark.parametrize(("points", "tolerance"), [(2**12, 1e-4), pytest.param(2**15, 2e-5, marks=pytest.mark.slow)])
def test_reference_rows(
    arguments: tuple[float, ...],
    order: tuple[float, ...],
    loss: float,
    error: float,
    points: int,
    tolerance: float,
) -> None:
    T, alpha, lam, _, centred = arguments
    got = solve(arguments, points)
    assert (got.q, got.m, got.v, got.overlap) == pytest.approx(order[:4], abs=tolerance)
    assert got.effective_decay == pytest.approx(order[4], abs=10 * tolerance)  # alpha' times a small mean of both signs
    assert got.replicon == pytest.approx(order[5], abs=5 * tolerance)
    assert (got.energy - lam * got.q) / alpha == pytest.approx(loss, abs=10 * tolerance)
    rest = (T + 1) / T * (1 - 2 * got.m**2 + got.q**2) + (1 - centred) * (got.q - 1) ** 2 / T
    assert rest == pytest.approx(error, abs=5 * tolerance)
    assert got.stable and got.agreed and got.jumps == 0


def random_problems(points: int, T: int, v: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((T, points))
    target = np.sort(rng.standard_normal((T, points)) * 1.5, axis=0)
    return target, 0.7 * teacher + 0.5 * rng.standard_normal((T, points)), teacher


@pytest.mark.parametrize(("T", "v"), [(2, 0.1), (3, 1.0), (3, 6.0)])
def test_prox_is_the_global_minimum(T: int, v: float) -> None:
    c = 4 / T**2
    target, field, _ = random_problems(12, T, v, T)
    chi = field / (1 + c * v * (squared_norm(target, field, c * v) - target))

    def objective(x: np.ndarray, i: int) -> float:
        fit = np.outer(x, x) - np.diag(target[:, i])
        return float((fit**2).sum() * c / 4 + ((x - field[:, i]) ** 2).sum() / (2 * v))

    rng = np.random.default_rng(1)
    for i in range(chi.shape[1]):
        best = min(minimize(objective, 2 * rng.standard_normal(T), args=(i,)).fun for _ in range(12))
        assert objective(chi[:, i], i) <= best + 1e-9


def test_norm_against_bisection() -> None:
    target, field, _ = random_problems(2000, 3, 1.0, 3)
    for strength in (1e-3, 0.1, 10.0, 1e3):
        low = np.maximum(0, target[-1] - 1 / strength)
        high = np.maximum(target[-1], 0) + (field**2).sum(0)
        for _ in range(200):
            middle = (low + high) / 2
            right = (field**2 / (1 + strength * (middle - target)) ** 2).sum(0) > middle
            low, high = np.where(right, middle, low), np.where(right, high, middle)
        np.testing.assert_allclose(squared_norm(target, field, strength), low, rtol=1e-9, atol=1e-12)


def test_moments_against_finite_differences() -> None:
    """One sequence: the response K^-1 = d chi / d omega and all that is made of it."""
    T, v = 3, 0.8
    c = 4 / T**2
    target, field, teacher = random_problems(1, T, v, 5)

    def solution(omega: np.ndarray) -> np.ndarray:
        return omega / (1 + c * v * (squared_norm(target, omega, c * v) - target))

    columns = [(solution(field + e) - solution(field - e)) / 2e-5 for e in 1e-5 * np.eye(T)[:, :, None]]
    inverse, chi = np.hstack(columns), solution(field)
    got = prox(target, field, teacher, v, c)
    assert got.trace_inverse == pytest.approx(np.trace(inverse), rel=1e-6)
    assert got.replicon == pytest.approx(((inverse - np.eye(T)) ** 2).sum(), rel=1e-6)
    alignment = c * (np.trace(inverse) * float((teacher * chi).sum()) + (chi.T @ inverse @ teacher).item())
    assert got.alignment == pytest.approx(alignment, rel=1e-6)
    assert got.force == pytest.approx(float(((chi - field) ** 2).sum()) / v**2, rel=1e-9)
    gradient = 2 / T**2 * (chi @ chi.T - np.diag(target[:, 0]))
    assert got.trace_gradient == pytest.approx(np.trace(gradient), rel=1e-9)
    assert got.loss == pytest.approx((gradient**2).sum() * T**2 / 4, rel=1e-9)


def test_weight_decay_makes_the_adapter_vanish() -> None:
    problem = Finetuning(3, 1, 0.622326)
    values = [solve_finetuning(replace(problem, lam=lam), 2**11) for lam in (1.0, 5.0, 9.0, 13.0)]
    assert [order.q for order in values] == pytest.approx([0.858, 0.372, 0.047, 0], abs=5e-3)
    assert math.isnan(values[-1].overlap) and values[-1].m < 1e-4


def test_much_data_finds_the_adapter() -> None:
    noise = 0.622326
    for alpha, ratio in ((5, 1.135), (20, 1.033), (80, 1.008)):
        order = solve_finetuning(Finetuning(alpha, 0.0, noise))
        assert (1 - order.overlap**2) / (noise / (alpha * 12)) == pytest.approx(ratio, abs=0.02)
        assert order.q == pytest.approx(1, abs=0.02)


def test_recovery_without_noise() -> None:
    for alpha in (0.45, 0.6):
        assert solve_finetuning(Finetuning(alpha, 1e-4, 1e-6), 2**12).overlap > 1 - 1e-6


def test_too_few_sequences_do_not_converge() -> None:
    with pytest.raises(NotConverged) as caught:
        solve_finetuning(Finetuning(0.3, 1e-4, 1e-6), 2**8)
    assert set(caught.value.state) == {"q", "m", "v"}
    assert caught.value.residual > 0


def test_teacher_of_another_norm() -> None:
    """A teacher of norm q0 is one of norm 1 with noise over q0^2, decay over q0 and fields over sqrt(q0)."""
    unit, other = Finetuning(3, 0.5, 0.3), Finetuning(3, 1.0, 1.2, q0=2.0)
    one, two = solve_finetuning(unit, 2**11), solve_finetuning(other, 2**11)
    assert (two.q / 2, two.m / 2, two.overlap) == pytest.approx((one.q, one.m, one.overlap), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha must be above 0"),
        ({"lam": -1}, "lam must be at least 0"),
        ({"effective_noise": -0.1}, "effective_noise must be at least 0"),
        ({"tokens": 1}, "tokens must be"),
        ({"q0": 0}, "q0 must be above 0"),
    ],
)
def test_arguments_out_of_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        replace(Finetuning(3, 0.5, 0.5), **change)  # type: ignore[arg-type]


def test_number_of_points_is_a_power_of_two() -> None:
    with pytest.raises(LorateError, match="power of two"):
        sobol(3, 1000, 0)


def test_solution_of_lowest_energy_is_kept() -> None:
    base = FinetuningOrder(1.0, 0.9, 0.1, 1.0, 0.1, 0.2, 0.0, 2.0, "informed", True)
    other = replace(base, m=0.1, energy=1.0, start="weak")
    chosen = solve_from_all_starts(lambda start: base if start == "informed" else other)
    assert (chosen.start, chosen.agreed) == ("weak", False)


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(-2, 2), st.floats(-2, 2))
def test_settle_solves_linear_maps(slope: float, shift: float, start: float) -> None:
    def update(x: np.ndarray) -> np.ndarray:
        return np.array([slope * x[1] + shift, -slope * x[0] + 1])

    x = settle(update, np.array([start, 0.0]), ("x", "y"), 1e-10)
    np.testing.assert_allclose(update(x), x, atol=1e-9)


def test_settle_stops_at_a_number_that_is_not_finite() -> None:
    with pytest.raises(NotConverged, match=r"left the range of finite numbers \(last state: x=1"):
        settle(lambda x: x * np.nan, np.array([1.0]), ("x",), 1e-6)


def test_symmetric_gaussian_has_the_right_variances() -> None:
    matrix = symmetric_gaussian(np.random.default_rng(0).standard_normal((200_000, 3)))
    np.testing.assert_array_equal(matrix, matrix.swapaxes(1, 2))
    assert matrix.var(axis=0) == pytest.approx(np.array([[2, 1], [1, 2]]), rel=0.02)


def test_the_best_decay_of_finetuning_has_worse_neighbours() -> None:
    def error(lam: float) -> float:
        order = solve_finetuning(Finetuning(1.0, lam, 0.6, 3), 2**10)
        return order.q**2 - 2 * order.m**2

    best = optimal_finetuning_decay(1.0, 0.6, 3, 2**10)
    assert error(best) < min(error(0.8 * best), error(1.25 * best))


def test_where_nothing_can_be_learned_no_decay_is_best() -> None:
    with pytest.raises(LorateError, match=r"is not between 0\.02 and 2 at alpha 0\.01"):
        optimal_finetuning_decay(0.01, 50.0, 3, 2**9)
