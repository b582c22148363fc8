import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lorate.errors import LorateError
from lorate_papers.attention import (
    Finetuning,
    NotConverged,
    Pretraining,
    finetuned_error,
    linear_error,
    reused_sequences,
    solve_finetuning,
    solve_pretraining,
    solve_softmax_finetuning,
    solve_softmax_pretraining,
)
from lorate_papers.attention.activation import LINEAR, SOFTMAX, Activation
from lorate_papers.attention.newton import minimise
from lorate_papers.attention.samples import symmetric_gaussian
from lorate_papers.attention.softmax_finetuning import FieldFit, outer, slope
from lorate_papers.attention.softmax_pretraining import AttentionFit, SoftmaxPretrainingOrder, coordinates

FITTED = SoftmaxPretrainingOrder(Pretraining(0.3, 0.03, 2), 0.989, 1.201, 4.12, 0.75, 0.98, 0.4, 0.58, 0.028, 0.146)


@pytest.mark.parametrize("activation", [LINEAR, SOFTMAX])
def test_derivatives_against_autograd(activation: Activation) -> None:
    rng = np.random.default_rng(0)
    A, Y = rng.standard_normal((2, 5, 3, 3))

    def sigma(a: torch.Tensor) -> torch.Tensor:
        return a / 3 if activation is LINEAR else torch.softmax(a, -1)

    gradient, blocks = activation.curvature(A, Y)
    jacobian = activation.jacobian(A)
    for n in range(5):
        a, y = torch.tensor(A[n]), torch.tensor(Y[n])
        np.testing.assert_allclose(activation.value(A)[n], sigma(a), atol=1e-12)
        expected = torch.autograd.functional.jacobian(lambda t, y=y: (sigma(t) - y).square().sum(), a)
        np.testing.assert_allclose(gradient[n], expected, atol=1e-12)
        hessian = torch.autograd.functional.hessian(lambda t, y=y: (sigma(t) - y).square().sum(), a)
        full = torch.autograd.functional.jacobian(sigma, a)
        for row in range(3):
            np.testing.assert_allclose(blocks[n, row], hessian[row, :, row, :], atol=1e-12)
            np.testing.assert_allclose(jacobian[n, row], full[row, :, row, :], atol=1e-12)


def test_small_problems_reach_the_minimum_that_scipy_finds() -> None:
    rng = np.random.default_rng(1)
    omega, teacher = symmetric_gaussian(rng.standard_normal((2 * 6, 6))).reshape(2, 6, 3, 3)
    target = SOFTMAX.value(teacher + 0.5 * rng.standard_normal((6, 3, 3)))
    fit = AttentionFit(omega, target, 3.0, SOFTMAX)
    fitted = coordinates(fit.solve([omega, teacher]))
    field = rng.standard_normal((6, 3))
    fields = FieldFit(omega, target, field, 0.7, SOFTMAX)
    chi = minimise(fields, [field, -field, 0.3 * field])
    for n in range(6):
        rows = np.array([n])
        for problem, found, starts in (
            (fit, fitted, [coordinates(omega)[n], coordinates(teacher)[n]]),
            (fields, chi, [field[n], -field[n], 0.3 * field[n]]),
        ):
            results = [
                minimize(
                    lambda x, problem=problem, rows=rows: problem.value(x[None], rows)[0],
                    start,
                    jac=lambda x, problem=problem, rows=rows: problem.derivatives(x[None], rows)[0][0],
                    tol=1e-10,
                )
                for start in starts
            ]
            best = min(result.fun for result in results)
            assert problem.value(found[rows], rows)[0] <= best + 1e-8
            assert np.abs(problem.derivatives(found[rows], rows)[0]).max() < 1e-6


def test_second_derivative_of_the_field_problem() -> None:
    rng = np.random.default_rng(2)
    offset = symmetric_gaussian(rng.standard_normal((1, 6)))
    fields = FieldFit(offset, SOFTMAX.value(offset + 1), rng.standard_normal((1, 3)), 0.7, SOFTMAX)
    x, rows = rng.standard_normal((1, 3)), np.array([0])
    hessian = fields.derivatives(x, rows)[1][0]
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        column = (fields.derivatives(x + step, rows)[0] - fields.derivatives(x - step, rows)[0])[0] / 2e-6
        np.testing.assert_allclose(hessian[i], column, atol=1e-6)
        np.testing.assert_allclose(slope(x)[0, :, :, i], (outer(x + step) - outer(x - step))[0] / 2e-6, atol=1e-8)


def test_general_equations_with_linear_attention_are_the_linear_ones() -> None:
    problem = Pretraining(0.1, 0.1)
    exact = solve_pretraining(problem)
    order = solve_softmax_pretraining(problem, 2**12, activation=LINEAR)
    assert pytest.approx((exact.Q, exact.M, exact.V), abs=2e-3) == (order.Q, order.M, order.V)
    assert (order.scale, order.tau) == pytest.approx((1, exact.tau), abs=1e-3)
    assert order.train_loss == pytest.approx(exact.train_loss, abs=2e-3)
    assert order.excess_error == pytest.approx(exact.excess_error, abs=2e-3)


@pytest.mark.parametrize("reused", [False, True])
def test_general_fine_tuning_with_linear_attention_is_the_linear_one(reused: bool) -> None:
    exact = solve_pretraining(Pretraining(0.1, 0.01))
    noise = reused_sequences(exact) if reused else 0.622326
    tuned = solve_finetuning(Finetuning(3, 0.5, noise))
    got = solve_softmax_finetuning(exact, 3, 0.5, reused=reused, points=2**10, activation=LINEAR)
    assert (got.q, got.m, got.overlap) == pytest.approx((tuned.q, tuned.m, tuned.overlap), abs=2e-3)
    assert (got.v, got.effective_decay) == pytest.approx((tuned.v, tuned.effective_decay), abs=5e-3)
    assert got.replicon == pytest.approx(tuned.replicon, rel=0.02)
    error = finetuned_error(exact, got, activation=LINEAR)
    assert error == pytest.approx(linear_error(exact, got), abs=3e-3)


def test_reference_of_softmax_pretraining() -> None:
    order = solve_softmax_pretraining(Pretraining(0.3, 0.03, 2), 2**12)
    values = (order.Q, order.M, order.V, order.scale, order.tau, order.train_loss)
    assert values == pytest.approx((0.989, 1.201, 4.12, 0.750, 0.982, 0.0276), rel=0.02)


@pytest.mark.slow
def test_reference_of_softmax_pretraining_three_tokens() -> None:
    order = solve_softmax_pretraining(Pretraining(0.2, 0.01, 3), 2**13)
    assert (order.Q, order.M, order.V, order.scale, order.train_loss) == pytest.approx(
        (1.93, 1.78, 5.3, 0.94, 0.065), rel=0.025
    )


def test_reference_of_softmax_fine_tuning() -> None:
    """Values of 2**13 points; simulation at D = 100 gives q .663(4), m .796(6), overlap .977(4), error .137(4)."""
    tuned = solve_softmax_finetuning(FITTED, 3, 0.1, reused=True, points=2**10)
    assert (tuned.q, tuned.m) == pytest.approx((0.655, 0.791), rel=0.03)
    assert tuned.overlap == pytest.approx(0.977, abs=0.004)
    assert finetuned_error(FITTED, tuned) == pytest.approx(0.1415, rel=0.03)
    assert tuned.stable and tuned.agreed


@pytest.mark.slow
def test_unstable_solution_is_flagged_or_refused() -> None:
    order = solve_softmax_pretraining(Pretraining(0.3, 0.01, 2), 2**12)
    try:
        tuned = solve_softmax_finetuning(order, 3, 0.02)
    except NotConverged as failure:
        assert failure.state["v"] > 0
    else:
        assert tuned.replicon >= 1 and not tuned.stable


def test_arguments_out_of_range() -> None:
    with pytest.raises(LorateError, match="alpha must be above 0"):
        solve_softmax_finetuning(FITTED, 0, 0.1)
    with pytest.raises(LorateError, match="lam must be at least 0"):
        solve_softmax_finetuning(FITTED, 1, -0.1)
    with pytest.raises(LorateError, match="q0 must be above 0"):
        solve_softmax_finetuning(FITTED, 1, 0.1, q0=0)
    with pytest.raises(LorateError, match="power of two"):
        solve_softmax_pretraining(Pretraining(0.3, 0.03, 2), 1000)
    with pytest.raises(LorateError, match="kappa must be at least"):
        solve_softmax_pretraining(Pretraining(0.3, 0.03, 2, kappa=0.1), 2**8)
