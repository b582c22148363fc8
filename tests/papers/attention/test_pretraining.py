import math
from dataclasses import replace

import pytest

from lorate.errors import LorateError
from lorate_papers.attention import (
    NotConverged,
    Pretraining,
    bayes_bound,
    collapse_decay,
    fresh_sequences,
    optimal_beta,
    optimal_decay,
    reused_sequences,
    solve_pretraining,
)
from lorate_papers.attention import pretraining as module
from papers.attention.limits import noiseless_recovery

ROWS = [  # alpha, lambda, T, kappa0, kappa, Delta; Q, M, V, tau, Lambda, active, noise: fresh, reused, beta*; error
    ((0.1, 0.01, 3, 1, 1, 0.5), (2.222975, 1.925325, 4.355446, 0.720142, 0.110091, 0.716540),
     (0.622326, 0.072207, 0.582471, 0.496434)),
    ((0.1, 0.1, 3, 1, 1, 0.5), (1.267687, 1.411069, 1.991942, 0.761331, 0.706990, 0.528943),
     (0.695549, 0.195688, 0.679332, 0.594066)),
    ((0.1, 1, 3, 1, 1, 0.5), (0.013311, 0.065523, 0.037783, 1.333000, 3.812971, 0.056900),
     (2.132266, 2.062419, 1.927477, 2.509688)),
    ((0.2, 0.05, 2, 0.5, 1, 0.5), (1.523387, 1.393075, 1.199970, 0.637206, 0.183331, 0.595163),
     (0.487237, 0.100672, 0.476090, 0.355856)),
    ((0.3, 0.1, 2, 1, 2, 0.1), (1.579467, 1.735278, 0.756950, 0.297126, 0.276078, 0.681428),
     (0.158911, 0.051479, 0.143540, 0.163366)),
    ((1, 0.02, 2, 0.3, 1, 0), (1.292039, 1.296011, 0.092420, 0.001702, 0.007283, 0.300000),
     (1.7e-5, 1.5e-5, 5e-6, 2.6e-5)),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "order", "noises"), ROWS)
def test_reference_rows(arguments: tuple[float, ...], order: tuple[float, ...], noises: tuple[float, ...]) -> None:
    got = solve_pretraining(Pretraining(*arguments))  # type: ignore[arg-type]
    assert (got.Q, got.M, got.V, got.tau, got.threshold, got.active) == pytest.approx(order, abs=2e-6)
    best = fresh_sequences(got, optimal_beta(got))
    values = (fresh_sequences(got), reused_sequences(got), best, got.excess_error)
    assert values == pytest.approx(noises, abs=2e-6)


@pytest.mark.parametrize(("arguments", "order", "noises"), ROWS)
def test_equations_of_the_fixed_point_hold(
    arguments: tuple[float, ...], order: tuple[float, ...], noises: tuple[float, ...]
) -> None:
    """The iteration as it is usually written, applied to the solution, does not move it."""
    p = Pretraining(*arguments)  # type: ignore[arg-type]
    got = solve_pretraining(p)
    c = 4 / p.tokens**2
    v_hat = p.measurements * c / (1 + c * got.V)
    tau = math.sqrt(fresh_sequences(got) / p.measurements)
    law = module.integrals(p.kappa0, tau, 2 * p.lam * math.sqrt(p.kappa) / v_hat)
    assert (law.M, law.Q, law.V / v_hat) == pytest.approx((got.M, got.Q, got.V), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("problem", "edge", "collapse"),
    [(Pretraining(0.1, 1), 4.883293, 1.302212), (Pretraining(0.2, 1, 2, 0.5), 4.709449, 2.825670)],
)
def test_collapse(problem: Pretraining, edge: float, collapse: float) -> None:
    assert collapse_decay(problem) == pytest.approx(collapse, abs=1e-6)
    above = solve_pretraining(replace(problem, lam=collapse * 1.0001))
    assert (above.Q, above.M, above.V) == (0, 0, 0)
    assert fresh_sequences(above) == pytest.approx(problem.noise / 2 + problem.Q0, rel=1e-12)
    below = solve_pretraining(replace(problem, lam=collapse * 0.99))
    assert below.Q > 0


def test_much_data_learns_the_teacher() -> None:
    order = solve_pretraining(Pretraining(100, 0.1))
    assert fresh_sequences(order) == pytest.approx(0.250208, abs=1e-6)
    assert max(abs(order.Q - 2), abs(order.M - 2), order.V) < 2e-3


def test_interpolation_fits_the_noise_away() -> None:
    values = [reused_sequences(solve_pretraining(Pretraining(0.05, lam))) for lam in (1e-2, 1e-3, 1e-4)]
    assert values == pytest.approx([1.04e-2, 2.2e-4, 2.5e-6], rel=0.02)
    enough = solve_pretraining(Pretraining(0.1, 1e-7))
    assert abs(enough.V - 4.888) < 0.01
    assert reused_sequences(enough) == pytest.approx(0.0689, abs=1e-4)


@pytest.mark.parametrize(("kappa0", "value"), [(0.1, 0.315144), (0.3, 0.654309), (0.5, 0.844350), (1, 1), (3, 1)])
def test_noiseless_recovery(kappa0: float, value: float) -> None:
    assert noiseless_recovery(kappa0) == pytest.approx(value, abs=1e-6)


def test_recovery_sets_in_at_the_threshold() -> None:
    alpha = noiseless_recovery(0.3) / 6
    below, above = (
        solve_pretraining(Pretraining(alpha * factor, 1e-5, 2, 0.3, 1, 0)).mismatch for factor in (0.97, 1.03)
    )
    assert below == pytest.approx(1.65e-3, rel=0.01)
    assert above == pytest.approx(1.9e-7, rel=0.15)


BEST = [  # alpha, T, kappa0, Delta; lambda and noise plain, lambda and noise recalibrated; Bayes Q and noise
    ((0.1, 3, 1, 0.5), (0.02999, 0.586101), (0.0199, 0.576957), (1.744924, 0.505076)),
    ((0.2, 2, 0.5, 0.5), (0.10387, 0.466742), (0.0999, 0.466642), (1.298441, 0.451559)),
    ((0.5, 3, 0.5, 0.1), (0.02991, 0.057575), (0.0447, 0.057435), (1.492937, 0.057063)),
]


@pytest.mark.parametrize(("arguments", "plain", "recalibrated", "bayes"), BEST)
def test_best_decay_and_bayes_bound(
    arguments: tuple[float, int, float, float],
    plain: tuple[float, float],
    recalibrated: tuple[float, float],
    bayes: tuple[float, float],
) -> None:
    alpha, T, kappa0, noise = arguments
    problem = Pretraining(alpha, 1, T, kappa0, 1, noise)
    best, best_beta = optimal_decay(problem), optimal_decay(problem, recalibrated=True)
    assert (best.lam, best.effective_noise) == pytest.approx(plain, rel=2e-3, abs=2e-6)
    assert best_beta.effective_noise == pytest.approx(recalibrated[1], abs=2e-6)
    assert best_beta.lam == pytest.approx(recalibrated[0], rel=0.02)
    bound = bayes_bound(alpha, T, kappa0, noise)
    assert (bound.Q, bound.effective_noise) == pytest.approx(bayes, abs=2e-6)
    assert bound.effective_noise < best_beta.effective_noise < best.effective_noise


def test_bayes_is_continuous_in_small_noise() -> None:
    above, below = (bayes_bound(0.5, 3, 0.5, noise).effective_noise / noise for noise in (2e-5, 2e-6))
    assert above == pytest.approx(below, rel=0.05)


def test_bayes_recovers_without_noise() -> None:
    bound = bayes_bound(1.0, 2, 0.3, 0.0)
    assert (bound.Q, bound.effective_noise) == (1.3, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha must be above 0; it is 0"),
        ({"lam": 0}, "lam must be above 0; it is 0"),
        ({"lam": math.nan}, "lam must be a finite number; it is nan"),
        ({"tokens": 1}, "tokens must be a whole number of at least 2; it is 1"),
        ({"tokens": 2.5}, "tokens must be a whole number"),
        ({"tokens": math.inf}, "tokens must be a whole number"),
        ({"kappa0": -1}, "kappa0 must be above 0"),
        ({"kappa": 0}, "kappa must be above 0"),
        ({"noise": -0.5}, "noise must be at least 0; it is -0.5"),
    ],
)
def test_arguments_out_of_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        replace(Pretraining(0.1, 0.1), **change)  # type: ignore[arg-type]


def test_student_narrower_than_what_it_learns() -> None:
    with pytest.raises(LorateError, match=r"kappa must be at least .* it is 0.2"):
        solve_pretraining(Pretraining(0.1, 0.01, kappa=0.2))


def test_exception_carries_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mismatch", lambda *_: 1e12)
    with pytest.raises(NotConverged) as caught:
        solve_pretraining(Pretraining(0.1, 0.01))
    assert caught.value.state["tau"] > 1e3
    assert "tau=" in str(caught.value)
