import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate_papers.attention.spectrum import edges, integrals, mismatch, posterior_variance, resolvent
from papers.attention.limits import density

WIDTHS = st.floats(0.05, 5.0)
NOISES = st.floats(0.01, 5.0)


@pytest.mark.parametrize(
    ("x", "value"),
    [(0.5, 0.10183905 - 1.1916708j), (1.0, 0.35786123 - 0.89754202j), (3.0, 0.48492775 - 0.31199865j)],
)
def test_resolvent_reference_values(x: float, value: complex) -> None:
    assert abs(complex(resolvent(x, 1.0, 0.5)) - value) < 1e-8


@pytest.mark.parametrize(
    ("kappa0", "tau", "expected"),
    [
        (1.0, 0.5, [-0.64031434, 4.12402368]),
        (0.3, 0.2, [-0.34262906, 0.32289381, 0.42286818, 4.38761371]),
        (2.0, 0.7, [-0.65245013, 4.40139935]),
    ],
)
def test_edges_reference_values(kappa0: float, tau: float, expected: list[float]) -> None:
    np.testing.assert_allclose(edges(kappa0, tau), expected, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(WIDTHS, NOISES)
def test_resolvent_is_the_root_of_the_cubic_with_the_most_negative_imaginary_part(kappa0: float, tau: float) -> None:
    ends = edges(kappa0, tau)
    for x in np.linspace(ends[0] - 0.5, ends[-1] + 0.5, 17):
        a = kappa0**-0.5
        roots = np.roots([-a * tau**2, tau**2 + a * x, kappa0**0.5 - a - x, 1])
        lowest = roots[np.argmin(roots.imag)]
        got = complex(resolvent(x, kappa0, tau))
        if lowest.imag < -1e-4:  # nearer to an edge a double root limits the reference itself
            assert abs(got - lowest) < 1e-6 * (1 + abs(lowest))


@settings(max_examples=60, deadline=None)
@given(WIDTHS, NOISES)
def test_moments_of_the_law(kappa0: float, tau: float) -> None:
    """Unit mass, mean sqrt(kappa0), second moment 1 + kappa0 + tau^2, and int rho h x = 1."""
    shift = 1 - edges(kappa0, tau)[0]  # f(x) = x + shift on all of the support
    law = integrals(kappa0, tau, -shift)
    assert law.active == pytest.approx(1, abs=1e-9)
    assert law.trace - shift == pytest.approx(kappa0**0.5, abs=1e-6)
    assert law.Q - 2 * shift * law.trace + shift**2 == pytest.approx(1 + kappa0 + tau**2, abs=1e-6)
    assert abs(law.V - 1) < 1e-7


@pytest.mark.parametrize(("kappa0", "tau"), [(0.324, 0.343), (0.362, 0.26), (0.835, 0.0158), (0.0635, 1.86)])
def test_quadrature_next_to_a_gap(kappa0: float, tau: float) -> None:
    """Where a gap is about to open the density has a near cusp inside the bulk."""
    assert integrals(kappa0, tau, -20.0).active == pytest.approx(1, abs=1e-9)


def test_density_vanishes_outside_and_between_the_bulks() -> None:
    assert density(np.array([-0.4, 0.37, 4.5]), 0.3, 0.2).tolist() == [0, 0, 0]
    assert density(np.array([0.0, 2.0]), 0.3, 0.2).min() > 0.05


def test_density_matches_eigenvalues_of_a_random_matrix() -> None:
    rng = np.random.default_rng(0)
    D, kappa0, tau = 800, 0.5, 0.3
    W = rng.standard_normal((D, int(kappa0 * D)))
    noise = rng.standard_normal((D, D))
    matrix = W @ W.T / (D * kappa0**0.5) + tau * (noise + noise.T) / np.sqrt(2 * D)
    values = np.linalg.eigvalsh(matrix)
    for threshold in (0.0, 0.5, 1.0, 2.0):
        law = integrals(kappa0, tau, threshold)
        assert law.active == pytest.approx((values > threshold).mean(), abs=0.01)
        assert law.trace == pytest.approx(np.maximum(values - threshold, 0).mean(), abs=0.02)


def test_threshold_above_the_support_leaves_nothing() -> None:
    law = integrals(1.0, 0.5, 4.2)
    assert (law.M, law.Q, law.V, law.trace, law.active) == (0, 0, 0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(WIDTHS, NOISES, st.floats(0.0, 3.0))
def test_mismatch_is_the_sum_it_stands_for(kappa0: float, tau: float, threshold: float) -> None:
    law = integrals(kappa0, tau, threshold)
    assert mismatch(kappa0, tau, threshold) == pytest.approx(1 + kappa0 - 2 * law.M + law.Q, abs=1e-7)


def test_guess_is_perfect_without_noise_and_the_mean_with_much() -> None:
    assert posterior_variance(0.5, 1e-3) == pytest.approx(0.75e-6, rel=1e-2)  # 1 - (1 - kappa0)^2 directions
    assert posterior_variance(0.5, 50.0) == pytest.approx(1.0, abs=1e-3)  # kappa0 of Q0 = 1.5 is the mean
