"""Which rule guarantees more, for the same problem, the same L and plain gradients."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import (
    SHARP_FRACTION,
    THEORY_FRACTION,
    majorizer_change,
    majorizer_step_size,
    sharp_step_size,
    theory_step_size,
)

from .lora_problems import KINDS, ROUNDING, SEEDS, Array, Problems, column, draw, spectral, squares


def sharp_steps(p: Problems) -> Array:
    eta = sharp_step_size(spectral(p.A), spectral(p.B), spectral(p.G), p.L, p.scaling)
    return np.where(np.isfinite(eta), eta, 0.0)


def global_majorizer(p: Problems, D_A: Array, D_B: Array) -> Array:
    geometry = [x.sum(1) for x in p.geometry(D_A, D_B)]
    return -majorizer_change(majorizer_step_size(*geometry, p.smoothness), *geometry, p.smoothness)


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_majorizer_per_layer_guarantees_at_least_sharp_per_layer(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    g_A, g_B = p.factor_gradients(p.G)
    geometry = p.geometry(-g_A, -g_B)
    majorizer = -majorizer_change(majorizer_step_size(*geometry, p.L), *geometry, p.L)
    sharp = SHARP_FRACTION * sharp_steps(p) * (squares(g_A) + squares(g_B))
    assert np.all(majorizer >= sharp * (1 - ROUNDING))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_global_majorizer_guarantees_at_least_global_sharp(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    g_A, g_B = p.factor_gradients(p.G)
    eta = sharp_steps(p)
    moving = np.where(eta > 0, eta, np.inf).min(axis=1)
    sharp = SHARP_FRACTION * np.where(np.isfinite(moving), moving, 0.0) * np.sum(squares(g_A) + squares(g_B), axis=1)
    assert np.all(global_majorizer(p, -g_A, -g_B) >= sharp * (1 - ROUNDING))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_global_majorizer_guarantees_at_least_theory(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    g_A, g_B = p.factor_gradients(p.G)
    norm_sq = np.sum(p.scaling * (squares(p.A) + squares(p.B)), axis=1)
    eta = theory_step_size(norm_sq, np.sqrt(squares(p.G).sum(1)), p.smoothness)
    theory = THEORY_FRACTION * eta * np.sum((squares(g_A) + squares(g_B)) / p.scaling, axis=1)
    direction = -g_A / column(p.scaling), -g_B / column(p.scaling)
    assert np.all(global_majorizer(p, *direction) >= theory * (1 - ROUNDING))


def test_one_global_quartic_can_guarantee_less_than_sharp_per_layer() -> None:
    ratios = []
    for seed in range(20):
        p = draw(seed, "worst")
        g_A, g_B = p.factor_gradients(p.G)
        sharp = np.sum(SHARP_FRACTION * sharp_steps(p) * (squares(g_A) + squares(g_B)), axis=1)
        clear = sharp > 0
        ratios.append((global_majorizer(p, -g_A, -g_B)[clear] / sharp[clear]).min())
    assert min(ratios) < 0.5
