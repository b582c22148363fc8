"""Training runs of experiments: the same start for every rule, faithful records, divergence seen."""

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.rules import RULES
from lorate.runs.strict_json import encode
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.steppers import scheduled
from lorate_papers.training.trace import Step, Trace
from lorate_papers.training.training_run import Watch, train_model, train_under_rule
from lorate_papers.workloads import AdapterSpec, load_workload

ADAPTER = {"rank": 2, "alpha": 2}


def run(rule: str, lr: float | None, steps: int = 5, batch: int | None = None, **more: Any) -> dict[str, Any]:
    return train_under_rule("logistic", ADAPTER, rule, lr, steps, batch, 3, quick=True, **more)


def test_every_rule_and_baseline_starts_alike() -> None:
    rules = [rule for rule in RULES if rule != "backtracking"]  # that one is for the full batch
    first = {rule: run(rule, 0.1, steps=2, batch=7) for rule in [*rules, "adamw", "sgd"]}
    for name in ("loss", "grad_sq", "stacked_sq"):
        assert len({round(result["trace"][name][0], 6) for result in first.values()}) == 1, name
    assert len({result["trace"]["loss"][1] for result in first.values()}) > 3
    assert all(json.loads(encode(result)) for result in first.values())


def test_other_seeds_start_elsewhere() -> None:
    one, other = (train_under_rule("logistic", ADAPTER, "constant", 0.1, 1, 7, seed, quick=True) for seed in (0, 1))
    assert one["trace"]["stacked_sq"] != other["trace"]["stacked_sq"]
    assert one["trace"]["grad_sq"] != other["trace"]["grad_sq"]


@pytest.mark.parametrize("batch", [None, 7])
def test_rule_constant_and_baseline_sgd_are_the_same_run(batch: int | None) -> None:
    rule, baseline = run("constant", 0.3, 12, batch), run("sgd", 0.3, 12, batch)
    for name in ("loss", "grad_sq", "stacked_sq", "eta"):
        np.testing.assert_allclose(rule["trace"][name], baseline["trace"][name], rtol=1e-5)
    assert rule["final_validation"] == pytest.approx(baseline["final_validation"], rel=1e-5)


def test_records_agree_with_a_loop_by_hand() -> None:
    task = load_workload("logistic", quick=True)
    model = task.model(AdapterSpec(**ADAPTER), 3)
    ((A, B),) = [(pair.A, pair.B) for pair in find_pairs(model)]
    optimizer = torch.optim.AdamW([A, B], lr=0.02, weight_decay=0.0)
    batches, losses, squares = task.batches(10, 3), [], []
    for _ in range(20):
        optimizer.zero_grad()
        loss = task.loss(model, next(batches))
        loss.backward()
        losses.append(loss.item())
        squares.append(float(A.grad.square().sum() + B.grad.square().sum()))
        optimizer.step()
    result = run("adamw", 0.02, 20, 10, validate_every=8)
    np.testing.assert_allclose(result["trace"]["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(result["trace"]["grad_sq"], squares, rtol=1e-5)
    np.testing.assert_allclose(result["trace"]["min_grad_sq"], np.minimum.accumulate(squares), rtol=1e-5)
    assert result["first_loss"] == losses[0] and result["final_loss"] == pytest.approx(np.mean(losses[-2:]))
    assert result["validation"]["step"] == [0, 8, 16, 20]
    assert result["final_validation"] == pytest.approx(task.validation_loss(model))
    assert result["trainable"] == 2 * (64 + 10) and result["steps"] == 20 and not result["diverged"]


def test_all_weights_can_be_trained_by_a_baseline_only() -> None:
    result = train_under_rule("logistic", None, "sgd", 0.1, 5, None, 0, quick=True)
    assert result["trainable"] == 640 and result["trace"]["stacked_sq"] == [None] * 5
    assert result["final_loss"] < result["first_loss"]
    with pytest.raises(LorateError, match="no LoRA layers"):
        train_under_rule("logistic", None, "adaptive", 1.0, 5, None, 0, quick=True)
    with pytest.raises(LorateError, match="'adamw' needs a learning rate"):
        run("adamw", None)
    with pytest.raises(LorateError, match="unknown rule 'best'"):
        run("best", 1.0)


@pytest.mark.parametrize(("rule", "lr"), [("constant", 30.0), ("constant", 1e12), ("sgd", 1e20), ("normalized", 50.0)])
def test_a_diverging_run_ends_early_and_is_marked(rule: str, lr: float) -> None:
    result = run(rule, lr, steps=400)
    assert result["diverged"] and result["steps"] < 100 and result["stopped"]
    assert result["final_loss"] is None and result["final_validation"] is None
    assert result["trace"]["step"][-1] == result["steps"]


def test_a_run_that_stands_still_below_its_start_is_not_called_diverged() -> None:
    watch = Watch()
    assert not watch.must_stop(Step(1.0, 1.0, None, 0.1))
    still = Step(0.5, 1e-9, None, 0.0, "the direction does not descend")
    assert [watch.must_stop(still) for _ in range(10)] == [False] * 9 + [True]
    assert not watch.diverged and watch.reason == "10 steps in a row were skipped: the direction does not descend"


def test_a_last_step_that_breaks_the_model_is_a_divergence() -> None:
    task = load_workload("logistic", quick=True)
    model = task.model(AdapterSpec(**ADAPTER), 0)

    def spoil() -> None:
        for parameter in model.parameters():
            parameter.data.fill_(math.inf)

    broken = train_model(task, model, Recipe("sgd", 0.1, 1, None, 0), after_step=spoil)
    assert broken["diverged"] and broken["stopped"] == "the held-out loss at the end is not finite"
    assert broken["final_loss"] is None and broken["final_validation"] is None and broken["steps"] == 1


def test_a_loss_has_to_stay_high_to_be_a_divergence() -> None:
    watch = Watch()
    losses = [1.0, *[9.0] * 9, 2.0, *[9.0] * 10]
    assert [watch.must_stop(Step(loss, 1.0, None, 0.1)) for loss in losses] == [False] * 20 + [True]
    assert watch.diverged


def test_the_last_step_is_kept_wherever_the_run_ends() -> None:
    trace = Trace(1000, 20)
    for step in range(1, 602):
        trace.add(Step(float(step), 1 / step, None, 0.5), seconds=2.0 * step)
    columns = trace.columns()
    assert columns["step"][:3] == [1, 2, 3] and columns["step"][-1] == 601 and len(columns["step"]) <= 20
    gaps = np.diff(np.log(columns["step"][8:-1]))
    assert np.all(gaps < 0.5) and columns["sum_eta"][-1] == 300.5
    before, last = columns["step"][-2:]
    assert columns["mean_loss"][-1] == pytest.approx((before + 1 + last) / 2)
    assert trace.rises == 600 and trace.final_loss(3) == 600 and trace.seconds_per_step == 2.0
    assert "of 1000 steps" in trace.thinning and Trace(20, 20).thinning == "every step"


def test_schedules() -> None:
    recipe = Recipe("adamw", 1.0, 10, None, 0, schedule="cosine", warmup=4)
    multipliers = [scheduled(recipe, step) for step in range(10)]
    assert multipliers[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert multipliers[7] == pytest.approx(0.5) and multipliers[9] == pytest.approx((1 + math.cos(math.pi * 5 / 6)) / 2)
    eta = run("adamw", 0.1, 10, schedule="cosine", warmup=4)["trace"]["eta"]
    assert eta == pytest.approx([0.1 * value for value in multipliers])
    assert run("constant", 0.1, 10, schedule="cosine", warmup=4)["trace"]["eta"] == pytest.approx(eta)


def test_hooks_of_a_run() -> None:
    task = load_workload("logistic", quick=True)
    model, calls, given = task.model(AdapterSpec(**ADAPTER), 0), [], []
    train_model(
        task, model, Recipe("constant", 0.1, 4, None, 0), on_start=given.append, after_step=lambda: calls.append(1)
    )
    assert len(calls) == 4 and isinstance(given[0], torch.optim.Optimizer)


GROWN = """
import torch
from lorate_papers.training.peak_memory import PeakMemory
with PeakMemory() as memory:
    torch.ones(20_000_000).sum()
print(memory.grown_mib)
"""


def test_peak_memory_sees_what_was_allocated_meanwhile() -> None:
    # in a process of its own: this one may have kept memory that was freed
    found = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=True).stdout.strip()
    if found == "None":
        pytest.skip("this system does not tell")
    assert 70 < float(found) < 200


def test_the_average_of_auto_is_what_is_validated() -> None:
    task = load_workload("logistic", quick=True)
    model, seen = task.model(AdapterSpec(**ADAPTER), 0), []
    result = train_model(task, model, Recipe("auto", None, 40, 20, 0), on_start=seen.append)
    last = task.validation_loss(model)
    with seen[0].averaged():
        assert result["final_validation"] == task.validation_loss(model) != last
    assert not result["diverged"] and result["final_validation"] < 2
