"""The sketch: unbiased, linear in G, the same on every device, as accurate as promised."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture, rademacher
from lorate.gradient_norm.sketch import SketchSum

from .models import CASES, adapt, floating, loss_of


def test_signs_depend_on_seed_and_name_only() -> None:
    Z = rademacher(1000, 8, seed=3, name="a")
    assert Z.abs().eq(1).all()
    assert Z.mean().abs() < 0.05
    torch.manual_seed(99)  # the global generator has no say
    assert torch.equal(Z, rademacher(1000, 8, seed=3, name="a"))
    for other in (rademacher(1000, 8, seed=4, name="a"), rademacher(1000, 8, seed=3, name="b")):
        assert (Z * other).mean().abs() < 0.05


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    rademacher(10, 4, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_mean_and_spread_of_the_square() -> None:
    torch.manual_seed(0)
    dY, X = torch.randn(30, 6, dtype=torch.float64), torch.randn(30, 10, dtype=torch.float64)
    square = (dY.T @ X).norm() ** 2
    k = 8
    samples = torch.empty(2000, dtype=torch.float64)
    for seed in range(2000):
        total = SketchSum(out_dim=6, in_dim=10, probes=k, name="")
        total.add(dY, X @ rademacher(10, k, seed).double())
        samples[seed] = total.norm() ** 2
    spread = samples.std() / square
    assert (samples.mean() / square - 1).abs() < 4 * spread / 2000**0.5
    assert spread <= (2 / k) ** 0.5 * 1.05


@pytest.mark.parametrize("name", CASES)
def test_converges_to_the_exact_norm(name: str) -> None:
    model, x = CASES[name]()
    model.double().eval()
    x = floating(x, torch.float64)
    pairs = find_pairs(model)
    with GradientCapture(pairs, method="exact") as exact:
        loss_of(model, x).backward()
    squares = []
    with GradientCapture(pairs, probes=500) as capture:
        for seed in range(40):
            capture.reset(seed)
            loss_of(model, x).backward()
            squares.append(capture.norms() ** 2)
    # 20,000 probes: relative deviation of the square at most 0.01
    torch.testing.assert_close(torch.stack(squares).mean(0), exact.norms() ** 2, rtol=0.045, atol=0)


def test_relative_error_of_all_layers_together(record_property: Callable[[str, object], None]) -> None:
    """Median over 20 seeds with the default number of probes."""
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(48, 48), nn.Tanh())]
    model = adapt(nn.Sequential(*layers), [str(2 * i) for i in range(6)], r=4)
    x, pairs = torch.randn(64, 48), find_pairs(model)
    with GradientCapture(pairs, method="exact") as exact:
        loss_of(model, x).backward()
    truth = exact.norms().norm()
    errors = []
    with GradientCapture(pairs) as capture:
        for seed in range(20):
            capture.reset(seed)
            loss_of(model, x).backward()
            errors.append((capture.norms().norm() / truth - 1).abs())
    median = torch.stack(errors).median().item()
    record_property("sketch_relative_error", median)
    print(f"median relative error of the sketch, 20 seeds, k = 8: {median:.3f}")
    assert median <= 0.15


def test_same_seed_gives_the_same_numbers_and_reset_keeps_the_signs() -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    values = []
    for _ in range(2):
        with GradientCapture(pairs, seed=7) as capture:
            for _ in range(2):
                loss_of(model, x).backward()
                values.append(capture.norms())
                capture.reset()
    assert all(torch.equal(value, values[0]) for value in values)


def test_pairs_in_another_order_get_the_same_signs() -> None:
    model, x = CASES["linear"]()
    pairs = find_pairs(model)
    with GradientCapture(pairs) as one, GradientCapture(pairs[::-1]) as other:
        loss_of(model, x).backward()
    assert torch.equal(one.norms(), other.norms().flip(0))


def test_seed_changed_under_a_running_graph_is_refused() -> None:
    model, x = CASES["linear"]()
    with GradientCapture(find_pairs(model)) as capture:
        loss = loss_of(model, x)
        capture.reset(seed=1)
        with pytest.raises(LorateError, match="between a forward and its backward"):
            loss.backward()


def _rank_norms(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    result = {}
    for name in ("linear", "linear-few-rows", "embedding-padding"):
        for method in ("sketch", "exact"):
            model, x = CASES[name]()
            model.double()
            rows = floating(x, torch.float64).tensor_split(world)[rank]
            with GradientCapture(find_pairs(model), method=method) as capture:
                (loss_of(model, rows) * world).backward()  # data-parallel training averages over the ranks
            capture.average_over_ranks()
            result[name, method] = capture.norms()
            # a rank whose batch was empty takes part with zeros
            capture.reset()
            if rank == 0:
                with capture:
                    loss_of(model, rows).backward()
                result[name, method, "alone"] = capture.norms()
            capture.average_over_ranks()
            result[name, method, "half"] = capture.norms()
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    mp.spawn(_rank_norms, args=(2, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name in ("linear", "linear-few-rows", "embedding-padding"):
        for method in ("sketch", "exact"):
            model, x = CASES[name]()
            model.double()
            with GradientCapture(find_pairs(model), method=method) as capture:
                loss_of(model, floating(x, torch.float64)).backward()
            for result in ranks:
                torch.testing.assert_close(result[name, method], capture.norms(), rtol=1e-12, atol=0)
                torch.testing.assert_close(
                    result[name, method, "half"], ranks[0][name, method, "alone"] / 2, rtol=1e-12, atol=0
                )


def test_averaging_without_ranks_is_refused() -> None:
    model, _ = CASES["linear"]()
    with pytest.raises(LorateError, match="initialised"):
        GradientCapture(find_pairs(model)).average_over_ranks()
