"""The adapter of the solvable model as a LoRA pair: same loss, same steps, same minimum."""

import numpy as np
import pytest
import torch

from lorate_papers.attention import Pretraining
from lorate_papers.attention.simulation import draw_instance, finetuning_data, pretrain_map
from lorate_papers.attention.simulation.data import bilinear
from lorate_papers.experiments.attention.bridge import Bridge, descend_factor, descend_lora

D = 16


@pytest.fixture(scope="module")
def problem() -> tuple[Bridge, torch.Tensor]:
    instance = draw_instance(Pretraining(0.1, 0.1), D, (0,))
    S = pretrain_map(instance).S
    return Bridge.of(finetuning_data(instance, S, 3.0), 0.5), S[0]


def test_the_loss_is_the_one_that_lbfgs_minimises(problem: tuple[Bridge, torch.Tensor]) -> None:
    bridge, _ = problem
    w = bridge.best_adapter
    assert bridge.value(np.outer(w, w)) == pytest.approx(bridge.best, rel=1e-12)
    assert np.linalg.norm(2 * bridge.gradient(np.outer(w, w)) @ w) < 1e-4 * bridge.best  # stationary


def test_the_gradient_is_that_of_differences(problem: tuple[Bridge, torch.Tensor]) -> None:
    bridge, _ = problem
    rng = np.random.default_rng(0)
    M, direction = (X + X.T for X in rng.normal(size=(2, D, D)))
    slope = (bridge.value(M + 1e-4 * direction) - bridge.value(M - 1e-4 * direction)) / 2e-4
    assert slope == pytest.approx(float(np.sum(bridge.gradient(M) * direction)), rel=1e-7)


def test_the_smoothness_is_the_largest_eigenvalue(problem: tuple[Bridge, torch.Tensor]) -> None:
    bridge, _ = problem
    rows, columns = np.triu_indices(D)
    basis = np.zeros((len(rows), D, D))
    basis[np.arange(len(rows)), rows, columns] = basis[np.arange(len(rows)), columns, rows] = np.sqrt(0.5)
    basis[rows == columns] *= np.sqrt(2)
    images = torch.stack([bilinear(torch.as_tensor(E)[None], bridge.data.x).reshape(-1) for E in basis]).numpy()
    largest = 2 / 9 * np.linalg.eigvalsh(images @ images.T)[-1]
    assert largest <= bridge.smoothness <= 1.03 * largest


@pytest.mark.parametrize("rule", ["sharp", "majorizer"])
def test_lora_takes_the_steps_of_the_symmetric_factor(problem: tuple[Bridge, torch.Tensor], rule: str) -> None:
    bridge, S = problem
    start = bridge.random_start(3)
    factor = descend_factor(bridge, start, rule, 25)  # type: ignore[arg-type]
    lora = descend_lora(bridge, S, start, rule, 25)
    free = descend_lora(bridge, S, start, rule, 25, tie=False)
    np.testing.assert_allclose(lora.losses, factor.losses, rtol=1e-5)
    np.testing.assert_allclose(np.outer(lora.w, lora.w), factor.symmetric_part, atol=1e-3)
    # exact symmetry stays by itself, up to rounding
    np.testing.assert_allclose(free.losses, lora.losses, rtol=1e-10)
    assert (np.diff(lora.losses) <= 1e-12 * lora.losses[:-1]).all()


@pytest.mark.parametrize("start", ["spectral", "informed"])
def test_every_way_leads_to_the_global_minimum(problem: tuple[Bridge, torch.Tensor], start: str) -> None:
    bridge, S = problem
    w = bridge.spectral_start() if start == "spectral" else bridge.informed_start()
    assert descend_factor(bridge, w, "majorizer", 150).losses[-1] <= bridge.best * (1 + 1e-6)
    assert descend_lora(bridge, S, w, "adaptive-loss", 300).losses[-1] <= bridge.best * (1 + 1e-3)


def test_a_free_pair_leaves_the_symmetric_solution(problem: tuple[Bridge, torch.Tensor]) -> None:
    bridge, S = problem
    push = 0.01 * bridge.random_start(1)
    free = descend_lora(bridge, S, bridge.spectral_start(), "majorizer", 300, tie=False, push=push)
    assert free.losses[-1] < 0.99 * bridge.best
    assert np.linalg.eigvalsh(free.symmetric_part)[0] < -0.02 * D
