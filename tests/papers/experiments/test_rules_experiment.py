"""Comparison of the rules: targets, sensitivity, transfer, on made-up results; the runs themselves in the slow test."""

from pathlib import Path
from typing import Any

import pytest

from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.rules import plan
from lorate_papers.experiments.rules.claims import common_target, steps_needed, usable
from lorate_papers.experiments.runner import reproduce
from papers.experiments.tiny import QUICK, assert_sound_when_lost, lost, only, verdicts

TINY = plan.QUICK._replace(points=3, regression_steps=6, language_steps=4, language_batch=2)


def run_of(speed: float, last: float = 0.5) -> dict[str, Any]:
    """Training and held-out loss that fall in a straight line from 4 at the given speed, but not below ``last``."""
    steps = list(range(1, 21))
    losses = [max(4 - speed * (step - 1), last) for step in steps]
    held_out = {"step": [0, 10, 20], "loss": [max(4 - speed * step, last) for step in (0, 10, 20)]}
    trace = {"step": steps, "loss": losses, "eta": [0.1] * 20}
    return {
        "trace": trace, "validation": held_out, "first_loss": 4.0, "final_loss": losses[-1], "diverged": False,
        "final_validation": held_out["loss"][-1], "steps": 20,
    }  # fmt: skip


def made_up(options: Options, speeds: dict[str, float], usable: dict[str, int], best: dict[str, float]) -> Any:
    results = {}
    for workload, task in plan.tasks(options).items():
        for rule in task.rules:
            grid = [
                {"lr": lr, "first_loss": 4.0, "diverged": False, task.by: 1.0 if place < usable.get(rule, 3) else 3.9}
                for place, lr in enumerate(plan.grid(rule, options))
            ]
            factor = best.get(rule, 1.0) if workload == "small-lm" else 1.0
            runs = [run_of(speeds.get(rule, 0.1)) for _ in range(3)]
            results[f"{workload}-{rule}"] = {
                "best": factor * plan.CENTRES[rule],
                "grid": grid,
                "refused": [],
                "runs": runs,
            }
    return results


def test_targets_and_steps() -> None:
    results = made_up(QUICK, {"constant": 0.1, "adaptive": 0.2}, {}, {})
    for workload, task in plan.tasks(QUICK).items():
        target = common_target(results, workload, task)
        assert target == pytest.approx(2.1 if workload == "logistic" else 2.0)
        steps = steps_needed(results, workload, task, 2.1)
        assert steps["constant"] == pytest.approx(20 if workload == "logistic" else 19)
        assert steps["adaptive"] == pytest.approx(11 if workload == "logistic" else 9.5)
        assert steps_needed(results, workload, task, 0.1)["adaptive"] == float("inf")


@pytest.mark.parametrize(
    ("speed", "verdict"), [({"normalized": 0.3}, "holds"), ({"adaptive": 0.3}, "does not hold"), ({}, "holds")]
)
def test_normalized_against_adaptive(speed: dict[str, float], verdict: str) -> None:
    assert only(verdicts("rules", made_up(QUICK, speed, {}, {})), "normalized is at least as fast") == verdict


@pytest.mark.parametrize("last", [None, 4.0])
def test_steps_mean_nothing_where_a_rule_diverged_or_learned_nothing(last: float | None) -> None:
    results = made_up(QUICK, {"normalized": 0.3}, {}, {})
    for workload in plan.tasks(QUICK):
        for run in results[f"{workload}-constant"]["runs"]:
            run |= {"final_loss": last, "final_validation": last, "diverged": last is None}
    found = verdicts("rules", results)
    for words in ("normalized is at least as fast", "which costs nothing", "in fewer steps than the best constant"):
        assert only(found, words) == "not testable here"


def test_nothing_is_usable_and_nothing_keeps_up_where_all_diverged() -> None:
    results = made_up(QUICK, {}, {}, {})
    for workload, task in plan.tasks(QUICK).items():
        for rule in task.rules:
            for run in (*results[f"{workload}-{rule}"]["grid"], *results[f"{workload}-{rule}"]["runs"]):
                run |= {"final_loss": None, "final_validation": None, "diverged": True}
    assert usable(results["small-lm-constant"], plan.tasks(QUICK)["small-lm"]) == 0
    found = verdicts("rules", results)
    assert only(found, "the best of these rules") == "not testable here" == only(found, "auto without any setting")


def test_nothing_is_compared_where_every_run_diverged() -> None:
    assert_sound_when_lost("rules", lost(made_up(QUICK, {}, {}, {})), QUICK)


def test_sensitivity_and_transfer_come_out_either_way() -> None:
    even = verdicts("rules", made_up(QUICK, {}, {}, {}))
    assert only(even, "less sensitive") == "does not hold" and only(even, "carries over") == "does not hold"
    results = made_up(QUICK, {}, {"constant": 2}, {"constant": 10.0, "adaptive": 3.0})
    found = verdicts("rules", results)
    assert only(found, "less sensitive") == "holds" and only(found, "carries over") == "holds"


def test_a_fall_begins_at_the_loss_that_decides() -> None:
    results = made_up(QUICK, {}, {}, {})
    for trial in results["small-lm-constant"]["grid"]:
        trial["first_loss"] = 100.0  # a training loss, from which all would have fallen about as far
    assert usable(results["small-lm-constant"], plan.tasks(QUICK)["small-lm"]) == 3


def test_constants_that_were_refused_are_named() -> None:
    results = made_up(QUICK, {}, {}, {})
    found = results["logistic-adaptive"]
    found["grid"][-1]["final_loss"] = 0.25
    found["refused"] = [found["grid"][-1]["lr"]]
    told = "; 3000 ended lower on one start, at 0.25, and diverged on another)"
    claims = load_experiment("rules").claims(results, QUICK)
    assert [told in claim.value for claim in claims] == [True, True, True, False, True, False, False]
    assert "logistic regression, to training loss 2.1: adaptive 20 (with 30" + told in claims[0].value


def test_adamw_is_compared_at_the_end() -> None:
    ahead, behind = (made_up(QUICK, {rule: 0.15}, {}, {}) for rule in ("adamw", "adaptive"))
    assert only(verdicts("rules", ahead), "the best of these rules") == "does not hold"
    assert only(verdicts("rules", behind), "the best of these rules") == "holds"


@pytest.mark.parametrize(("loss", "verdict"), [(1.01, "holds"), (1.03, "does not hold")])
def test_auto_is_judged_at_its_default(loss: float, verdict: str) -> None:
    results = made_up(QUICK, {}, {}, {})
    (default,) = (trial for trial in results["small-lm-auto"]["grid"] if trial["lr"] == 1)
    default["final_validation"] = loss
    assert only(verdicts("rules", results), "auto without any setting") == verdict


def test_figures_of_made_up_results() -> None:
    drawings = load_experiment("rules").drawings(made_up(QUICK, {}, {}, {}), QUICK)
    assert len(drawings) == 4 and all(drawing.description and drawing.figure.axes for drawing in drawings)


def test_one_grid_of_one_rule() -> None:
    adapter, grid = {"rank": 2, "alpha": 2}, (0.01, 0.1, 50.0)
    found = plan.over_grid("logistic", "normalized", adapter, grid, 40, None, 20, (0, 1), "final_loss", True, None)
    assert [trial["lr"] for trial in found["grid"]] == [0.01, 0.1, 50.0] and found["grid"][2]["diverged"]
    assert found["best"] == 0.1 and [run["seed"] for run in found["runs"]] == [0, 1]
    assert found["runs"][0]["validation"]["step"] == [0, 20, 40]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tiny_one_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", TINY)
    outcome = reproduce("rules", tmp_path / "run", Options(quick=True), jobs=1)
    assert len(outcome.claims) == 7 and len(list((tmp_path / "run" / "figures").iterdir())) == 8
