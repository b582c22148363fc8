"""All weights against LoRA: costs that are known, and claims that can come out either way."""

import json
import math
import subprocess
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.runs.strict_json import encode
from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.full_vs_lora import claims, plan
from lorate_papers.experiments.full_vs_lora.figures import draw
from lorate_papers.experiments.full_vs_lora.plan import (
    FULL_TUNING,
    LORA,
    TASKS,
    VARIANTS,
    held_out_curves,
    losses_at_equal_cost,
    run_name,
)
from lorate_papers.workloads import small_lm


@pytest.mark.parametrize("quick", [True, False])
def test_the_plan(quick: bool) -> None:
    runs = load_experiment("full-vs-lora").runs(Options(quick=quick, seed=2))
    assert len({run.name for run in runs}) == len(runs) == len(TASKS) * (len(VARIANTS) + 1)
    assert all(json.loads(encode(run.arguments)) for run in runs)
    grids = {len(run.arguments["grid"]) for run in runs if "grid" in run.arguments}
    assert len(grids) == 1
    assert all(max(run.arguments["seeds"]) < 3000 for run in runs if "seeds" in run.arguments)


def test_the_operations_of_a_language_model_are_all_counted() -> None:
    shape, batch = small_lm.QUICK, 2
    found = plan.flops_of_a_step("small-lm", None, batch, True)
    tokens = batch * shape.length
    weights = shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.inner) + (small_lm.BEGIN + 1) * shape.width
    attention = shape.layers * 2 * batch * shape.length**2 * shape.width
    assert found == 3 * 2 * (tokens * weights + attention)  # forward, and backward twice as much
    lora = plan.flops_of_a_step("small-lm", {"rank": 1, "alpha": 2}, batch, True)
    assert 0.6 * found < lora < 0.8 * found  # no gradients of the weights


def variant(losses: list[float], flops: float, seconds: float, trained: int = 10, **more: Any) -> dict[str, Any]:
    """Four seeds that differ a little; those named in ``lost`` diverged."""
    lost = more.pop("lost", ())
    runs = [
        {
            "diverged": seed in lost, "seconds_per_step": seconds, "trainable": trained, "final_loss": 1.0,
            "final_validation": None if seed in lost else 1.5,
            "validation": {"step": [0, 50, 100], "loss": [loss + 0.01 * seed for loss in losses]},
            "trace": {"step": [1, 2], "loss": losses[:2]},
        }
        for seed in range(4)
    ]  # fmt: skip
    return {"runs": runs, "flops": flops, "best": 0.01, "at_edge": False, **more}


def results(full: dict[str, Any], **lora: dict[str, Any]) -> dict[str, Any]:
    """The same on both tasks; ``r1``, ``r4``, ``r16`` by rank."""
    found: dict[str, Any] = {}
    for task in TASKS:
        found[run_name(task, FULL_TUNING)] = full
        for name, key in zip(LORA, ("r1", "r4", "r16"), strict=True):
            found[run_name(task, name)] = lora.get(key, lora["r1"])
        found[f"memory-{task}"] = {FULL_TUNING: 50.0, **dict.fromkeys(LORA, 20.0)}
    return found


def test_losses_are_compared_where_the_cheapest_variant_ends() -> None:
    cheap, dear = variant([4.0, 2.0, 1.0], 1e9, 0.2), variant([4.0, 2.0, 0.5], 4e9, 0.1)
    made = results(dear, r1=cheap)
    by_cost = {cost: losses_at_equal_cost(made, "resnet", cost) for cost in ("steps", "FLOPs", "seconds")}
    assert [by_cost["steps"][name][0] for name in (FULL_TUNING, LORA[0])] == [0.5, 1.0]
    assert by_cost["FLOPs"][LORA[0]][0] == 1.0 and by_cost["FLOPs"][FULL_TUNING][0] == 3.0  # a quarter of its steps
    assert by_cost["seconds"][LORA[0]][0] == 2.0 and by_cost["seconds"][FULL_TUNING][0] == 0.5
    assert claims._full_is_ahead(made, "resnet", "steps", "").verdict == "holds"
    assert claims._full_is_ahead(made, "resnet", "FLOPs", "").verdict == "does not hold"
    assert claims._full_is_ahead(made, "resnet", "seconds", "").verdict == "holds"
    assert claims._cheaper(made, "FLOPs", "").verdict == "holds"
    assert claims._cheaper(made, "seconds", "").verdict == "does not hold"
    assert "resnet: LoRA, r = 1 2," in claims._cheaper(made, "seconds", "").value


def test_a_difference_within_the_errors_is_left_open() -> None:
    full, lora = variant([4, 2, 1.0], 1e9, 0.1), variant([4, 2, 1.0], 1e9, 0.1)
    for seed, run in enumerate(lora["runs"]):
        run["validation"]["loss"][-1] = 1.0 + (0.5 if seed % 2 else -0.4)
    claim = claims._full_is_ahead(results(full, r1=lora), "resnet", "steps", "")
    assert claim.verdict == "not testable here" and "4 seeds" in claim.value and " ± " in claim.value


def test_a_diverged_seed_leaves_the_curve_and_counts_as_lost() -> None:
    made = variant([4.0, 2.0, 1.0], 1e9, 0.2, lost=(0, 2, 3))
    places, losses = held_out_curves(made, "steps")
    assert places.tolist() == [0, 50, 100] and losses.tolist() == [[4.01, 2.01, 1.01]]
    found = results(variant([4, 2, 1.5], 1e9, 0.1), r1=made)
    assert losses_at_equal_cost(found, "resnet", "steps")[LORA[0]] == [math.inf, 1.01, math.inf, math.inf]
    claim = claims._full_is_ahead(found, "resnet", "steps", "")
    assert claim.verdict == "does not hold" and "infinite" in claim.value  # LoRA won where it came through


@pytest.mark.parametrize("lost", [FULL_TUNING, LORA[1], None])
def test_a_variant_whose_every_run_diverged_does_not_stop_the_report(lost: str | None) -> None:
    gone = variant([4, 9, 99], 1e9, 0.1, lost=range(4), at_edge=True)
    good = variant([4, 2, 1], 1e9, 0.1)
    made = results(good, r1=good)
    for task in TASKS:
        for name in VARIANTS:
            if lost in (name, None):
                made[run_name(task, name)] = gone
    decided = claims.decide(made, Options())
    ahead, rank = decided[0], decided[6]
    assert "diverged" in ahead.value and (ahead.verdict == "does not hold") == (lost != LORA[1])
    assert (rank.verdict == "does not hold") == (lost != FULL_TUNING)  # rank 4 is not below rank 1 where it is lost
    drawn = draw(made, Options())
    assert len(drawn) == 2 * len(TASKS) + len(TASKS) and all(one.caption for one in drawn)


def test_the_claim_on_ranks_needs_every_step_down() -> None:
    full, steps = variant([4, 2, 0.5], 1e9, 0.1), [variant([4, 2, loss], 1e9, 0.1) for loss in (3.0, 2.0, 1.0)]
    falling = results(full, **dict(zip(("r1", "r4", "r16"), steps, strict=True)))
    assert claims._rank(falling, "resnet").verdict == "holds"
    mixed = results(full, r1=steps[1], r4=steps[0], r16=steps[2])
    assert claims._rank(mixed, "resnet").verdict == "does not hold"


def test_memory_that_is_not_told_is_not_judged() -> None:
    made = results(variant([4, 2, 1], 1e9, 0.1, trained=5000), r1=variant([4, 2, 1], 1e9, 0.1))
    assert claims._memory(made).verdict == "holds" and "all weights 5" in claims._memory(made).value
    made["memory-resnet"][LORA[2]] = 60.0
    assert claims._memory(made).verdict == "does not hold"
    made["memory-resnet"][LORA[2]] = None
    assert claims._memory(made).verdict == "not testable here"


def test_learning_rates_and_overfitting() -> None:
    long = Options()
    full, lora = variant([4, 2, 1], 1e9, 0.1), variant([4, 2, 1], 1e9, 0.1, best=0.05)
    assert claims._learning_rate(results(full, r1=lora), long).verdict == "holds"
    assert claims._learning_rate(results(full, r1=lora), Options(quick=True)).verdict == "not testable here"
    far = {**lora, "best": 0.2}
    assert claims._learning_rate(results(full, r1=lora, r16=far), long).verdict == "does not hold"
    outside = claims._learning_rate(results(full, r1=lora, r16={**far, "at_edge": True}), long)
    assert outside.verdict == "not testable here"
    assert "at an edge of its grid, or diverged throughout: small-lm, LoRA, r = 16" in outside.value
    assert claims._overfitting(results(full, r1=lora), long, "small-lm").verdict == "not testable here"  # the same gap
    wide = {**lora, "runs": [{**run, "final_validation": 1.9} for run in lora["runs"]]}
    assert claims._overfitting(results(full, r1=wide), long, "small-lm").verdict == "does not hold"
    tight = {**lora, "runs": [{**run, "final_validation": 1.2} for run in lora["runs"]]}
    assert claims._overfitting(results(full, r1=tight), long, "small-lm").verdict == "holds"


def test_a_measurement_that_the_system_ends_without_a_word_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], -9, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(LorateError, match="The memory of resnet could not be measured: the process ended with -9"):
        plan.memory("resnet", 32, True)


@pytest.mark.slow
def test_memory_is_measured_in_fresh_processes() -> None:
    found = plan.memory("resnet", 32, True)
    assert set(found) == set(VARIANTS)
