"""The experiment on curvature: what is measured is the Hessian's, and claims that can come out either way."""

import json
import math
from typing import Any

import peft
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from lorate.adapters import find_pairs
from lorate.runs.strict_json import encode
from lorate_papers.experiments import Options
from lorate_papers.experiments.spectrum import claims, plan
from lorate_papers.experiments.spectrum.claims import crossing, decide
from lorate_papers.experiments.spectrum.figures import draw
from lorate_papers.workloads.tensor_workload import TensorWorkload

FULL = Options()


def adapted(seed: int, rank: int, alpha: float, spread: float) -> tuple[TensorWorkload, nn.Module]:
    """Two layers in float64 with random adapters, and a loss that is not convex."""
    draw = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)).double()
    model = peft.get_peft_model(layers, peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0", "2"])).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=p.dtype) * spread)
    data = {name: torch.randn(7, width, generator=draw).double() for name, width in (("x", 4), ("y", 3))}

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        difference: torch.Tensor = model(batch["x"]) - batch["y"]
        return difference.square().mean()

    return TensorWorkload("two layers", layers, ("0", "2"), data, data, loss), model


def dense_spectrum(workload: TensorWorkload, model: nn.Module, parameters: list[nn.Parameter]) -> torch.Tensor:
    """Absolute eigenvalues of the whole Hessian, which is made row by row."""
    asked = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(True)
    gradients = torch.autograd.grad(workload.loss(model, workload.train), parameters, create_graph=True)
    rows = [
        torch.cat([row.flatten() for row in torch.autograd.grad(entry, parameters, retain_graph=True)])
        for entry in torch.cat([gradient.flatten() for gradient in gradients])
    ]
    for p, state in zip(parameters, asked, strict=True):
        p.requires_grad_(state)
    return torch.linalg.svdvals(torch.stack(rows))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.1, 300), st.floats(0.01, 3))
@example(2715, 2, 0.25, 1.0)  # with as few products as the tolerance asks for, 0.93 of the norm,
@example(454, 1, 299.0, 0.2265625)  # and 0.48 of it
def test_the_sharp_curvature_bounds_the_hessian_of_the_adapters(
    seed: int, rank: int, alpha: float, spread: float
) -> None:
    workload, model = adapted(seed, rank, alpha, spread)
    found = plan.curvatures(workload, model, workload.train)
    dense = {
        kind: dense_spectrum(workload, model, [p for name, p in model.named_parameters() if words in name])
        for kind, words in (("adapters", "lora_"), ("weights", "base_layer"))
    }
    for kind, spectrum in dense.items():
        assert (1 - plan.TOLERANCE) * float(spectrum.max()) <= found[kind] <= float(spectrum.max()) * (1 + 1e-6)
    assert found["converged"]
    # the bound rests on the norm in the weights, which is measured from below
    assert float(dense["adapters"].max()) <= found["bound"] * (1 + 2 * plan.TOLERANCE)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


def test_the_bound_is_reached_where_the_weights_see_the_adapters_alone() -> None:
    """One weight, B = 0 and no gradient: the curvature in B is s²|A|² times that of the weight."""
    layer = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    model = peft.get_peft_model(layer, peft.LoraConfig(r=1, lora_alpha=6, target_modules=["0"])).double()
    (pair,) = find_pairs(model)
    with torch.no_grad():
        pair.A.fill_(0.5)
        pair.layer.get_base_layer().weight.fill_(2.0)  # type: ignore[operator]
    data = {"x": torch.ones(1, 1).double()}

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return (model(batch["x"]) - 2).square().mean()

    found = plan.curvatures(TensorWorkload("one", layer, ("0",), data, data, loss), model, data)
    assert found["weights"] == pytest.approx(2) and found["adapters"] == found["bound"] == pytest.approx(2 * 9)


def test_a_run_measures_before_between_and_at_the_end() -> None:
    found = plan.train_and_measure(2, 4.0, [0, 1, 3], 0)
    assert [row["step"] for row in found["rows"]] == [0, 1, 3] and not found["diverged"]
    assert found["lr"] == pytest.approx(3e-3) and all(row["weights"] > 0 for row in found["rows"])
    first, second = (plan.train_and_measure(2, alpha, [0, 1], 0)["rows"][0] for alpha in (2.0, 256.0))
    assert first["weights"] == second["weights"]  # B = 0: the same weights at every alpha
    assert second["adapters"] > 1000 * first["adapters"]


def results(options: Options, **world: Any) -> dict[str, Any]:
    """What the runs would return in a world described by a few numbers."""
    w: dict[str, Any] = {"base": 0.02, "power": 2.0, "rank": 0.3, "growth": 1.3, "bound": 0.3, "cap": 9e9} | world
    found: dict[str, Any] = {}
    for run in plan.runs(options):
        a = run.arguments
        ratio = w["base"] * (a["alpha"] / a["rank"]) ** w["power"] * a["rank"] ** w["rank"]
        rows = []
        for place, step in enumerate(a["steps"]):
            value = min(ratio * w["growth"] ** (place + 0.01 * (a["seed"] % 1000)), w["cap"])
            rows.append({"step": step, "adapters": 5 * value, "weights": 5.0, "bound": 5 * value / w["bound"],
                         "converged": True})  # fmt: skip
        found[run.name] = {"rows": rows, "lr": 1e-3, "loss": 2.0, "diverged": False}
    return json.loads(encode(found))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("place", "world"),
    [
        (0, {"base": 2.0}),
        (1, {"base": 0.3}),
        (2, {}),
        (3, {"growth": 0.8}),
        (4, {"growth": 0.8}),
        (5, {"rank": -0.1}),
        (6, {"power": 1.5}),
        (7, {"bound": 1.2}),
    ],
)
def test_every_claim_can_hold_and_fail(place: int, world: dict[str, Any]) -> None:
    good = results(FULL, cap=1.0) if place == 2 else results(FULL)
    assert decide(good, FULL)[place].verdict == "holds"
    assert decide(results(FULL, **world), FULL)[place].verdict == "does not hold"


def test_one_seed_above_one_at_one_step_refutes_suppression_throughout() -> None:
    found = results(FULL)
    row = found[plan.run_name(32, "2r", 1)]["rows"][1]
    row["adapters"] = 1.05 * row["weights"]
    assert claims.ratios(found, 32, "2r", FULL)[1] < 1  # the mean of the seeds hides it
    decided = decide(found, FULL)
    assert (decided[0].verdict, decided[1].verdict) == ("holds", "does not hold") and "to 1.05 at r = 32" in decided[
        1
    ].value


def test_what_is_not_known_is_left_open() -> None:
    noisy = results(FULL)
    for run in noisy.values():  # one seed up, the other down
        run["rows"][-1]["adapters"] = run["rows"][0]["adapters"] * (1.5 if run is noisy[next(iter(noisy))] else 0.7)
    assert decide(noisy, FULL)[3].verdict == "does not hold"  # at the ranks where both fell
    one_seed = Options(quick=True)
    assert decide(results(one_seed), one_seed)[3].verdict == "not testable here"
    found = results(FULL)
    next(iter(found.values()))["rows"][0]["converged"] = False
    assert decide(found, FULL)[7].verdict == "not testable here"


def test_where_the_spectra_are_alike() -> None:
    made = results(FULL, base=0.25, rank=0.0, growth=1.0)
    assert crossing(made, 8, FULL, 0) == pytest.approx(2.0)
    assert math.isnan(crossing(results(FULL, base=9.0), 8, FULL, 0))


def test_a_run_that_diverged_ends_its_curve() -> None:
    found = results(FULL)
    found[plan.run_name(8, "256√r", 0)]["rows"] = found[plan.run_name(8, "256√r", 0)]["rows"][:1]
    assert len(claims.ratios(found, 8, "256√r", FULL)) == 1 and len(decide(found, FULL)) == 8
    drawn = draw(found, FULL)
    assert [one.name for one in drawn] == ["ratio", "training"] and "where it diverged" in drawn[1].description
