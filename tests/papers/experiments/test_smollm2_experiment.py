"""The experiment on SmolLM2: each rule from each start is tuned over the whole length, by its held-out loss."""

from typing import Any

import pytest

from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.llm.plan import STARTS
from lorate_papers.experiments.smollm2 import plan
from papers.experiments.tiny import only, verdicts


def test_every_rule_and_start_is_a_run_that_can_be_done_alone() -> None:
    runs = load_experiment("smollm2").runs(Options(seed=1))
    assert len(runs) == len(plan.RULES) * len(STARTS)
    assert all(run.arguments["seeds"] == [1000, 1001, 1002] and len(run.arguments["grid"]) == 3 for run in runs)
    assert min(run.arguments["steps"] for run in runs) >= 200


def test_a_model_of_ones_own_is_run_in_the_quick_form_too() -> None:
    own: dict[str, Any] = {"data": "alpaca", "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0"}
    for run in load_experiment("smollm2").runs(Options(quick=True, **own)):
        assert {name: run.arguments[name] for name in own} == own and run.arguments["workload"] == "smollm2"
    assert not own.keys() & load_experiment("smollm2").runs(Options(quick=True))[0].arguments.keys()


def test_a_constant_is_tried_over_the_whole_length_by_its_held_out_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def train(workload: str, adapter: Any, rule: str, lr: float, steps: int, batch: int, seed: int, **_: Any) -> Any:
        done.append((lr, seed, steps))
        end = {"final_loss": -lr, "final_validation": abs(lr - 1), "diverged": False, "rises": 0}
        return {"lr": lr, "seed": seed, "steps": steps, "validation": {"loss": [3.0]}, **end}

    monkeypatch.setattr(plan, "train_under_rule", train)
    found = plan.tuned_rule("constant", 0.1, (0.3, 1.0, 3.0), (7, 8), "small-lm", 50, 1, quick=True)
    assert done == [(0.3, 7, 50), (1.0, 7, 50), (3.0, 7, 50), (1.0, 8, 50)]
    assert found["best"] == 1.0 and not found["at_edge"] and [run["seed"] for run in found["runs"]] == [7, 8]


def test_a_constant_with_which_a_seed_ends_above_its_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(workload: str, adapter: Any, rule: str, lr: float, steps: int, batch: int, seed: int, **_: Any) -> Any:
        worse = lr == 1.0 and seed == 8
        end = {"final_loss": 0.0, "final_validation": 6.4 if worse else abs(lr - 1), "diverged": False, "rises": 0}
        return {"lr": lr, "seed": seed, "steps": steps, "validation": {"loss": [3.0]}, **end}

    monkeypatch.setattr(plan, "train_under_rule", train)
    found = plan.tuned_rule("constant", 0.1, (0.3, 1.0, 3.0), (7, 8), "small-lm", 50, 1, quick=True)
    assert found["refused"] == [1.0] and found["best"] == 0.3


def made(losses: dict[str, float]) -> dict[str, Any]:
    """Results with these held-out losses, and little noise."""
    return {
        plan.run_name(rule, start): {
            "best": 1.0, "at_edge": False,
            "runs": [
                {
                    "diverged": False, "final_validation": losses.get(rule, 2.0) + 0.001 * seed,
                    "validation": {"step": [0], "loss": [3.0]},
                }
                for seed in range(3)
            ],
        }
        for rule in plan.RULES for start in STARTS
    }  # fmt: skip


def test_claims_come_out_either_way() -> None:
    found = verdicts("smollm2", made({"adaptive": 1.9, "normalized": 2.1}), Options())
    assert only(found, "the rule adaptive ends") == "holds" and only(found, "normalized ends") == "does not hold"
    assert only(found, "come close") == "does not hold"
    assert only(verdicts("smollm2", made({}), Options()), "come close") == "holds"
