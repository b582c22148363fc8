"""Bayes-optimal fine-tuning: against brute force, its identities, and as a bound of what training reaches."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorate.errors import LorateError
from lorate_papers.attention import Finetuning, bayes_error, bayes_overlap, solve_finetuning
from lorate_papers.attention.bayes import posterior_mean
from lorate_papers.attention.finetuning import residual_targets


def by_brute_force(values: np.ndarray, field: np.ndarray, rho: float, noise: float) -> np.ndarray:
    """The posterior mean of two tokens summed over a grid of the plane."""
    # the likelihood draws chi to a ring of radius √b, many of the prior's deviations away from its mean
    reach = np.abs(field).max() + math.sqrt(max(values.max(), 0)) + 8 * math.sqrt(rho)
    chi = np.stack(np.meshgrid(*[np.linspace(-reach, reach, 1601)] * 2, indexing="ij"))
    B = np.diag(values)
    difference = B[:, :, None, None] - chi[:, None] * chi[None]
    log = -((chi - field[:, None, None]) ** 2).sum(0) / (2 * rho) - (difference**2).sum((0, 1)) / (4 * noise)
    weight = np.exp(log - log.max())
    return np.asarray((weight * chi).sum((1, 2)) / weight.sum())


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-4, 8), min_size=2, max_size=2),
    st.lists(st.floats(-2.5, 2.5), min_size=2, max_size=2),
    st.floats(0.02, 1),
    st.floats(0.05, 4),
)
@example([5.3743, 7.9283], [0.0, -0.3868], 1.0, 0.05)  # between two peaks, where 65 nodes miss it by 0.1
def test_the_posterior_mean_is_that_of_brute_force(
    values: list[float], field: list[float], rho: float, noise: float
) -> None:
    b, omega = np.sort(values), np.array(field)
    found = posterior_mean(b[:, None], omega[:, None], rho, noise)[:, 0]
    assert found == pytest.approx(by_brute_force(b, omega, rho, noise), abs=1e-6 * (1 + np.abs(omega).max()))


def test_a_posterior_sample_and_the_teacher_are_alike() -> None:
    problem = Finetuning(3, 0, 0.6, tokens=3, q0=1.7)
    values, teacher, other = residual_targets(problem, 2**13, 0)
    for q in (0.3, 1.2):
        field = q / problem.q0 * teacher + math.sqrt(q - q * q / problem.q0) * other
        mean = posterior_mean(values, field, problem.q0 - q, problem.effective_noise)
        with_teacher, with_itself = float((mean * teacher).sum(0).mean()), float((mean**2).sum(0).mean())
        assert with_teacher == pytest.approx(with_itself, rel=0.01)
        assert 3 * q < with_itself < 3 * problem.q0  # the sequence's own target tells something, not all


@settings(max_examples=12, deadline=None)
@given(st.floats(0.8, 6), st.floats(0.05, 1.5), st.floats(0.1, 2), st.integers(2, 3))
def test_no_training_beats_it(alpha: float, lam: float, noise: float, tokens: int) -> None:
    problem = Finetuning(alpha, lam, noise, tokens)
    trained, best = solve_finetuning(problem, points=2**11), bayes_overlap(problem, points=2**11)
    if not math.isnan(trained.overlap):
        assert trained.overlap**2 <= best + 2e-3
    error = bayes_error(1 - 2 * trained.m**2 + trained.q**2 - 1, 0.0, tokens)  # q0^2 - 2 m^2 + q^2 in its place
    assert error >= bayes_error(0.0, best, tokens) - 5e-3


def test_more_data_and_less_noise_help_and_the_limit_of_much_data_is_that_of_training() -> None:
    by_alpha = [bayes_overlap(Finetuning(alpha, 0, 0.6), 2**10) for alpha in (0.7, 1.5, 4.0)]
    by_noise = [bayes_overlap(Finetuning(1.5, 0, noise), 2**10) for noise in (2.0, 0.6, 0.1)]
    assert by_alpha == sorted(by_alpha) and by_noise == sorted(by_noise) and by_alpha[-1] < 1
    far = Finetuning(60.0, 0, 0.5)
    left = 1 - bayes_overlap(far, 2**11)
    assert left / (far.effective_noise / (far.alpha * 12)) == pytest.approx(1, abs=0.05)


def test_the_scale_of_the_teacher_scales_the_rest() -> None:
    one, four = Finetuning(2, 0, 0.4, q0=1.0), Finetuning(2, 0, 0.4 * 16, q0=4.0)
    assert bayes_overlap(four, 2**10) == pytest.approx(4 * bayes_overlap(one, 2**10), rel=1e-5)


def test_without_noise_it_is_refused() -> None:
    with pytest.raises(LorateError, match="effective_noise must be above 0"):
        bayes_overlap(Finetuning(2, 0, 0.0))
