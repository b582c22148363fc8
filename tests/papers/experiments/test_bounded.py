"""Free, capped and decayed adapters: what is done to them is what is said, and claims can fail."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from lorate.adapters import find_pairs
from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.bounded import plan
from lorate_papers.experiments.bounded.plan import held_run
from lorate_papers.workloads import AdapterSpec, load_workload
from papers.experiments.tiny import QUICK, assert_sound_when_lost, lost, only, results_of, verdicts

TINY = plan.QUICK._replace(steps={"logistic": 12, "matrix": 12}, seeds=2, points=2, survival=(2, 12))


@pytest.fixture(scope="module")
def computed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", TINY)
        yield results_of("bounded")


@pytest.fixture
def results(computed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(plan, "QUICK", TINY)
    return copy.deepcopy(computed)


def test_every_figure_and_claim_comes_out(results: dict[str, Any]) -> None:
    assert len(verdicts("bounded", results)) == 10
    drawings = load_experiment("bounded").drawings(results, QUICK)
    assert len(drawings) == 7 and all(drawing.description and drawing.figure.axes for drawing in drawings)


@pytest.mark.parametrize("options", [QUICK, Options()])
def test_nothing_is_compared_where_every_run_diverged(
    results: dict[str, Any], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FULL", TINY)
    results = lost(results)
    for task in plan.TASKS:
        caps = results[f"caps-{task}"]
        results[f"caps-{task}"] = {name: [None] * 2 if name != "start" else values for name, values in caps.items()}
    # what is measured along the runs is there
    assert_sound_when_lost("bounded", results, options, "largest norm seen as C|without bound|Σ η|the rate 1/T")


def test_the_gradient_mapping_of_a_free_run_is_the_gradient() -> None:
    trace = held_run("matrix", "constant", 0.05, "free", 0.0, 10, 0, True)["trace"]
    np.testing.assert_allclose(trace["mapping_sq"], trace["grad_sq"], rtol=1e-3)


def test_projection_holds_the_norm() -> None:
    run = held_run("matrix", "adaptive-loss", 3.0, "projection", 1.5, 60, 0, True)
    norms = np.sqrt(run["trace"]["stacked_sq"])
    assert norms.max() == pytest.approx(1.5, rel=1e-5) and norms[0] < 1.4
    mapping, gradient = (np.array(run["trace"][name]) for name in ("mapping_sq", "grad_sq"))
    assert mapping[-1] < 1e-3 * gradient[-1], "stationary on the ball, though the gradient does not vanish"


def test_decay_is_descent_on_the_penalised_loss() -> None:
    task, decay, lr = load_workload("matrix", quick=True), 0.3, 0.05
    model = task.model(AdapterSpec(rank=plan.RANK, alpha=plan.RANK), 0)
    ((A, B),) = [(pair.A, pair.B) for pair in find_pairs(model)]
    optimizer, batch, norms, squares = torch.optim.SGD([A, B], lr=lr), next(task.batches(None, 0)), [], []
    for _ in range(15):
        optimizer.zero_grad()
        penalty = decay / 2 * (A.square().sum() + B.square().sum())
        (task.loss(model, batch) + penalty).backward()
        norms.append(2 / decay * float(penalty.detach()))
        squares.append(float(A.grad.square().sum() + B.grad.square().sum()))
        optimizer.step()
    run = held_run("matrix", "constant", lr, "decay", decay, 15, 0, True)
    np.testing.assert_allclose(run["trace"]["stacked_sq"], norms, rtol=1e-4)
    np.testing.assert_allclose(run["trace"]["mapping_sq"], squares, rtol=1e-3)


def test_the_cap_lies_half_way(results: dict[str, Any]) -> None:
    found = results["compared-matrix-sharp"]
    for free, capped in zip(found["free"], found["projection"], strict=True):
        first, last = (math.sqrt(free["trace"]["stacked_sq"][place]) for place in (0, -1))
        assert capped["value"] == pytest.approx((first + last) / 2)
        assert math.sqrt(max(capped["trace"]["stacked_sq"])) <= capped["value"] * (1 + 1e-5)


def test_claims_come_out_either_way(results: dict[str, Any]) -> None:
    found = verdicts("bounded", results)
    assert only(found, "never diverge") == "holds" and only(found, "largest norm seen as C") == "holds"
    results["compared-matrix-sharp"]["free"][0]["diverged"] = True
    run = results["compared-logistic-theory"]["decay"][1]
    run["bounded_bound"][3] = 1e-9
    found = verdicts("bounded", results)
    assert only(found, "never diverge") == "does not hold" and only(found, "largest norm seen") == "does not hold"


def price(results: dict[str, Any], decayed: float | None, free: float | None = 1.0) -> str:
    """The verdict on what a bound costs, where free, capped and decayed runs end at these losses (capped at 2)."""
    for task in plan.TASKS:
        for rule in ("sharp", "adaptive-loss"):
            for control, loss in {"free": free, "projection": 2.0, "decay": decayed}.items():
                for run in results[f"compared-{task}-{rule}"][control]:
                    run.update(final_loss=loss, diverged=loss is None)
    return only(verdicts("bounded", results), "costs training loss")


def test_a_bound_costs_something_from_one_percent_on(results: dict[str, Any]) -> None:
    assert price(results, 1.02) == "holds" and price(results, None) == "holds"
    assert price(results, 1.001) == "does not hold", "0.1% is no cost, however often it comes out"
    assert price(results, 1.02, free=None) == price(results, None, free=None) == "not testable here"
    claims = load_experiment("bounded").claims(results, QUICK)
    assert not any("nan" in claim.value for claim in claims)


def test_only_constants_that_train_count_as_rescued(results: dict[str, Any]) -> None:
    rows = [
        {"lr": lr, "control": control, "first_loss": 2.0, "final_loss": loss, "diverged": loss is None}
        for control, losses in {"free": (1.0, None), "projection": (1.0, 1.5), "decay": (1.0, 1.9)}.items()
        for lr, loss in zip((0.1, 1.0), losses, strict=True)
    ]
    for task in plan.TASKS:
        results[f"survivors-{task}"]["rows"] = rows
    found = verdicts("bounded", results)
    assert only(found, "A cap on ‖V‖ rescues") == "holds" and only(found, "Weight decay rescues") == "does not hold"
    (cap,) = (claim for claim in load_experiment("bounded").claims(results, QUICK) if "A cap on" in claim.claim)
    assert "free 1 (0.1), ‖V‖ capped 2 (0.1 to 1)" in cap.value


def test_how_tight_the_bound_is_can_matter_or_not(results: dict[str, Any]) -> None:
    flat = {
        "free": [0.9, 1.1],
        "start": 0.2,
        "0.25": [9.0, 9.0],
        "0.5": [1.2, 1.2],
        "0.75": [1.1, 1.0],
        "1": [1.0, 1.0],
    }
    results["caps-logistic"], results["caps-matrix"] = flat, flat | {"0.5": [1.6, 1.7]}
    found = verdicts("bounded", results)
    assert only(found, "ends on (logistic") == "holds" and only(found, "ends on (least") == "does not hold"
    results["caps-logistic"] = flat | {"0.75": [None, None]}  # diverged under the cap
    assert only(verdicts("bounded", results), "ends on (logistic") == "does not hold"


def test_a_tighter_cap_leaves_a_higher_loss() -> None:
    found = plan.capped("matrix", (0.5, 1.0), 60, [0], True)
    assert found["0.5"][0] > found["1"][0] >= 0.9 * found["free"][0] and 0 < found["start"] < 1


def test_growth_of_a_run_that_is_too_short_is_not_judged(results: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(plan, "FULL", TINY)
    for task in plan.TASKS:
        for rule in plan.RULES:
            for run in results[f"compared-{task}-{rule}"]["free"]:
                steps = np.array(run["trace"]["step"], dtype=float)
                run["trace"]["stacked_sq"] = (steps if task == "logistic" else 0 * steps + 1).tolist()
    assert only(verdicts("bounded", results, Options()), "grow without bound") == "holds"
    run = results["compared-matrix-sharp"]["free"][0]
    run["trace"] = {name: values[:2] for name, values in run["trace"].items()}
    assert only(verdicts("bounded", results, Options()), "grow without bound") == "not testable here"
