"""The experiment on the residual network: its plan, and claims that can come out either way."""

import json
from typing import Any

import numpy as np
import pytest

from lorate.runs.strict_json import encode
from lorate_papers.experiments import Claim, Options, load_experiment
from lorate_papers.experiments.resnet import claims, plan
from lorate_papers.workloads import load_workload


@pytest.mark.parametrize("quick", [True, False])
def test_the_plan(quick: bool) -> None:
    runs = load_experiment("resnet").runs(Options(quick=quick, seed=2, data="d", model="m"))
    assert len({run.name for run in runs}) == len(runs) == len(plan.TUNED) + len(plan.PROVED)
    assert all(json.loads(encode(run.arguments)) for run in runs)
    assert all(run.arguments["where"] == {"quick": quick, "data": "d", "model": "m"} for run in runs)
    assert all(min(run.arguments["seeds"]) == 2000 for run in runs)
    grids = {len(run.arguments["grid"]) for run in runs if "grid" in run.arguments}
    assert len(grids) == 1  # one size for every rule


def test_the_smoothness_is_measured_in_the_frozen_weights() -> None:
    task = load_workload("resnet", quick=True)
    found = plan.measured_smoothness(task)
    assert found.converged and 10 < found.value < 1000


def run(values: Any, norms: Any, loss: float | None = 1.0) -> dict[str, Any]:
    steps = np.arange(1, len(values) + 1)
    return {
        "steps": len(steps), "diverged": loss is None, "first_loss": 2.0, "final_loss": loss, "final_validation": loss,
        "validation": {"step": [0, 240], "loss": [2.0, loss]},
        "trace": {"step": steps.tolist(), "grad_sq": list(values), "stacked_sq": list(norms), "loss": [1.0] * 240},
    }  # fmt: skip


STEPS = np.arange(1, 241.0)


@pytest.mark.parametrize("order", [-0.5, -1.0, -2.0])
def test_an_exponent_is_found_through_noise(order: float) -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.5, len(STEPS)))
    assert claims.windowed_exponent(run(noise * STEPS**order, STEPS), "grad_sq") == pytest.approx(order, abs=0.2)


def results(grad_order: float, norm_order: float, losses: dict[str, float]) -> dict[str, Any]:
    runs = {rule: [run(STEPS**grad_order, STEPS**norm_order, losses.get(rule, 1.0))] * 3 for rule in plan.TUNED}
    return {
        f"tuned-{rule}": {"runs": three, "best": 1.0, "at_edge": False, "refused": [], "grid": []}
        for rule, three in runs.items()
    }


def growth(found: dict[str, Any]) -> Claim:
    return claims.growth_stops(claims.tuned(found), "a network", 240, decided=True)


def best(found: dict[str, Any]) -> Claim:
    return claims.normalized_is_best(claims.tuned(found), "a network")


def test_a_loser_that_is_not_tuned_leaves_the_best_rule_open() -> None:
    found = results(-1.5, 0.05, {"normalized": 0.5})
    assert best(found).verdict == "holds"
    found["tuned-normalized"]["at_edge"] = True  # a better constant would only widen its lead
    assert best(found).verdict == "holds"
    found["tuned-adaptive"]["at_edge"] = True
    assert best(found).verdict == "not testable here" and "adaptive 1 (1) at the edge" in best(found).value
    behind = results(-1.5, 0.05, {"normalized": 2.0})
    assert best(behind).verdict == "does not hold"
    behind["tuned-normalized"]["at_edge"] = True
    assert best(behind).verdict == "not testable here"


def test_a_constant_that_was_refused_is_named() -> None:
    found = results(-1.5, 0.05, {})
    found["tuned-constant"] |= {"grid": [{"lr": 9.0, "final_loss": 0.5}], "refused": [9.0]}
    assert "constant 1 (1) (with 1; 9 ended lower on one start, at 0.5, and diverged on another)" in best(found).value


def test_claims_on_rate_and_growth_can_fail() -> None:
    full = Options()
    fast, slow = results(-1.5, 0.05, {}), results(-0.5, 0.6, {})
    assert claims._rate(fast, full).verdict == "holds" and growth(fast).verdict == "holds"
    assert claims._rate(slow, full).verdict == "does not hold"
    assert growth(slow).verdict == "does not hold"
    assert growth(results(-1.5, 0.01, {})).verdict == "not testable here", "it has hardly moved"
    assert claims._rate(fast, Options(quick=True)).verdict == "not testable here"


def test_claims_on_rate_and_growth_need_a_run_that_did_not_diverge() -> None:
    lost = results(-1.5, 0.01, {})
    for rule in plan.TUNED:
        lost[f"tuned-{rule}"]["runs"] = [run(STEPS**-1.5, STEPS**0.01, None)] * 3
    for claim in (claims._rate(lost, Options()), growth(lost)):
        assert claim.verdict == "not testable here" and "normalized diverged" in claim.value
    assert claims._adamw(lost).verdict == best(lost).verdict == "not testable here"


def test_a_held_out_loss_of_zero_is_no_divergence() -> None:
    found = results(-1, 0, {})
    found["tuned-normalized"]["runs"] = [{**run(STEPS, STEPS), "final_validation": 0.0}] * 3
    assert "normalized 1 (0)" in best(found).value


def test_the_best_rule_is_named_by_its_loss() -> None:
    assert best(results(-1, 0, {"normalized": 0.5, "adamw": 0.1})).verdict == "holds"
    beaten = best(results(-1, 0, {"adaptive": 0.5}))
    assert beaten.verdict == "does not hold" and "adaptive 0.5" in beaten.value
    assert claims._adamw(results(-1, 0, {"adamw": 0.5})).verdict == "does not hold"
    assert claims._adamw(results(-1, 0, {"adamw": 1.5})).verdict == "holds"


def test_a_proved_rule_that_rises_or_diverges_is_told() -> None:
    def made(loss: float | None) -> dict[str, Any]:
        found = {f"untuned-{rule}": {"smoothness": 3.0, "runs": [run(STEPS, STEPS)]} for rule in plan.PROVED}
        found["untuned-sharp"]["runs"] = [run(STEPS, STEPS, loss)]
        return found

    assert claims._measured_smoothness(made(1.5), Options()).verdict == "holds"
    assert claims._measured_smoothness(made(2.5), Options()).verdict == "does not hold"
    assert claims._measured_smoothness(made(None), Options()).verdict == "does not hold"
