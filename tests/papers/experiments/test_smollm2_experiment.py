"""The experiment on SmolLM2: a constant is tuned once for its seeds, and each seed is a run of its own."""

from typing import Any

import pytest

from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.llm.plan import STARTS
from lorate_papers.experiments.smollm2 import plan
from papers.experiments.tiny import only, verdicts


def test_every_seed_is_a_run_that_can_be_done_alone() -> None:
    runs = load_experiment("smollm2").runs(Options(seed=1))
    assert len(runs) == len(plan.RULES) * len(STARTS) * 3
    assert {run.arguments["seed"] for run in runs} == {1000, 1001, 1002} and {
        run.arguments["first"] for run in runs
    } == {1000}
    assert min(run.arguments["steps"] for run in runs) >= 200


def test_a_constant_is_tried_once_for_all_seeds_and_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def train(rule: str, start: float, lr: float, seed: int, workload: str, steps: int, *_: Any) -> dict[str, Any]:
        done.append((lr, seed, steps))
        return {"lr": lr, "final_validation": None if lr > 2 else abs(lr - 1), "diverged": lr > 2}

    monkeypatch.setattr(plan, "_train", train)
    plan._trials.cache_clear()
    given = ("constant", 0.1, (0.3, 1.0, 3.0), 7, "small-lm", 50, 5, 1, True)
    found = [plan.tuned_run(*given[:2], seed, *given[2:]) for seed in (7, 8)]
    plan._trials.cache_clear()
    assert done == [(0.3, 7, 5), (1.0, 7, 5), (3.0, 7, 5), (1.0, 7, 50), (1.0, 8, 50)]
    assert [run["lr"] for run in found] == [1.0, 1.0] and not found[0]["at_edge"]


def made(losses: dict[str, float]) -> dict[str, Any]:
    """Results with these held-out losses, and little noise."""
    return {
        f"{plan.run_name(rule, start)}-seed-{seed}": {
            "lr": 1.0, "at_edge": False, "diverged": False, "final_validation": losses.get(rule, 2.0) + 0.001 * seed,
            "validation": {"step": [0], "loss": [3.0]},
        }
        for rule in plan.RULES for start in STARTS for seed in range(3)
    }  # fmt: skip


def test_claims_come_out_either_way() -> None:
    found = verdicts("smollm2", made({"adaptive": 1.9, "normalized": 2.1}), Options())
    assert only(found, "the rule adaptive ends") == "holds" and only(found, "normalized ends") == "does not hold"
    assert only(found, "come close") == "does not hold"
    assert only(verdicts("smollm2", made({}), Options()), "come close") == "holds"
