"""Tuning on the first start, running on all: with a made-up loss that is known."""

import math
from typing import Any

import pytest

from lorate_papers.experiments.rule_claims import (
    PAPER,
    beat_the_best_constant,
    ends_of,
    other_scales,
    same_scale,
    usable_constants,
)
from lorate_papers.training.tuned_runs import tuned_runs

GRID = (0.1, 1.0, 10.0)


def result(rule: str, lr: float, seed: int, loss: float | None) -> dict[str, Any]:
    trace = {"eta": [2 * lr, lr], "sum_eta": [2 * lr, 3 * lr]}
    return {
        "rule": rule, "lr": lr, "seed": seed, "steps": 2, "trace": trace, "final_loss": loss,
        "final_validation": loss, "diverged": loss is None, "rises": 0,
    }  # fmt: skip


class Made:
    """Loss |log10 lr - best|, and a list of what was run."""

    def __init__(self, best: float = 0.0, lost: tuple[tuple[float, int], ...] = ()) -> None:
        self.best, self.lost = best, lost
        self.done: list[tuple[str, float, int]] = []

    def __call__(self, rule: str, lr: float, seed: int) -> dict[str, Any]:
        self.done.append((rule, lr, seed))
        gone = (lr, seed) in self.lost
        return result(rule, lr, seed, None if gone else 1 + abs(math.log10(lr) - self.best))


def test_the_first_start_chooses_and_all_starts_run() -> None:
    made = Made()
    found = tuned_runs(made, "adaptive", GRID, [5, 6, 7])
    assert made.done == [("adaptive", lr, 5) for lr in GRID] + [("adaptive", 1.0, 6), ("adaptive", 1.0, 7)]
    assert (found["best"], found["at_edge"], found["refused"]) == (1.0, False, [])
    assert [run["seed"] for run in found["runs"]] == [5, 6, 7]
    assert [one["final_loss"] for one in found["grid"]] == [2.0, 1.0, 2.0] and "trace" not in found["grid"][0]


def test_a_best_constant_at_the_end_of_the_grid_is_told() -> None:
    assert tuned_runs(Made(best=1.0), "adaptive", GRID, [5])["at_edge"]


def test_a_constant_with_which_another_start_diverges_is_refused() -> None:
    found = tuned_runs(Made(best=1.0, lost=((10.0, 6),)), "adaptive", GRID, [5, 6])
    assert (found["best"], found["refused"], found["at_edge"]) == (1.0, [10.0], False)
    assert not any(run["diverged"] for run in found["runs"])


def test_the_last_constant_left_is_taken_even_if_a_start_diverges() -> None:
    found = tuned_runs(Made(lost=tuple((lr, 6) for lr in GRID)), "adaptive", GRID, [5, 6])
    assert len(found["refused"]) == 2 and found["runs"][1]["diverged"]


def test_multiples_and_constant_rates_of_the_same_scale() -> None:
    made = Made()
    found = tuned_runs(made, "adaptive", GRID, [5, 6], multiples={"large": 10.0}, against=("first step", "mean step"))
    assert [run["lr"] for run in found["large"]] == [10.0, 10.0] and found["large"][0]["rule"] == "adaptive"
    assert [one["lr"] for one in found["first step"]] == [2.0, 2.0]
    assert [one["lr"] for one in found["mean step"]] == [1.5, 1.5]
    assert made.done[-4:] == [("constant", 2.0, 5), ("constant", 2.0, 6), ("constant", 1.5, 5), ("constant", 1.5, 6)]


def found_with(losses: dict[str, float | None], **constant: Any) -> dict[str, Any]:
    """Two starts a rule; every paper rule set against a constant rate that ends at 2."""
    found: dict[str, Any] = {}
    for rule, loss in losses.items():
        runs = [result(rule, 1.0, seed, loss) for seed in (0, 1)]
        grid = [result(rule, lr, 0, value) for lr, value in zip(GRID, (None, 2.0, loss), strict=True)]
        other = [result("constant", 1, 0, 2.0)]
        found[rule] = {"best": 1.0, "at_edge": False, "refused": [], "runs": runs, "grid": grid, "mean step": other}
    found["constant"].update(constant)
    return found


def losses(own: float | None, constant: float) -> dict[str, float | None]:
    return {"constant": constant, **dict.fromkeys(PAPER, own)}


@pytest.mark.parametrize(
    ("large", "small", "verdict"),
    [([None, None], 3.0, "holds"), ([None, 5.0], 3.0, "does not hold"), ([None, None], 1.9, "does not hold")],
)
def test_other_scales_of_a_constant(large: list[float | None], small: float, verdict: str) -> None:
    runs = [result("constant", 10.0, seed, loss) for seed, loss in enumerate(large)]
    found = found_with(losses(0.5, 1.0), large=runs, small=[result("constant", 0.1, 0, small)])
    claim = other_scales({"rank 4": found})
    assert claim.verdict == verdict
    assert f"rank 4 (best 1): {large.count(None)} of 2 runs at ten times the best diverged" in claim.value


def test_a_constant_rate_that_always_diverges_does_not_crawl() -> None:
    lost = [result("constant", 1.0, seed, None) for seed in (0, 1)]
    found = found_with(losses(0.5, 1.0), runs=lost, large=lost, small=lost)
    claim = other_scales({"rank 4": found})
    assert claim.verdict == "does not hold" and "loss diverged at a tenth" in claim.value


def test_a_rule_is_held_against_constants() -> None:
    good, bad = (
        {"a": found_with(losses(0.5, 1.0))},
        {"a": found_with(losses(0.5, 1.0)), "b": found_with(losses(3.0, 1.0))},
    )
    assert same_scale(good, "mean step", "It is lower.").verdict == "holds"
    assert same_scale(bad, "mean step", "It is lower.").verdict == "does not hold"
    assert beat_the_best_constant(good).verdict == "holds"
    failed = beat_the_best_constant(bad)
    assert failed.verdict == "does not hold" and "b: constant 1, adaptive 3" in failed.value
    assert beat_the_best_constant({"a": found_with(losses(None, 1.0))}).verdict == "does not hold"
    assert ends_of(found_with(losses(None, 1.0)))["adaptive"] == math.inf


def test_a_loser_at_the_edge_of_its_grid_is_not_tuned() -> None:
    ahead, behind = (found_with(losses(own, 1.0)) for own in (0.5, 3.0))
    for found in (ahead, behind):
        found["adaptive"]["at_edge"] = True
    assert beat_the_best_constant({"a": ahead}).verdict == "holds"
    assert beat_the_best_constant({"a": behind}).verdict == "does not hold"  # the two others decide it
    behind["adaptive-loss"], behind["normalized"] = ahead["adaptive-loss"], ahead["normalized"]
    claim = beat_the_best_constant({"a": behind})
    assert claim.verdict == "not testable here" and "adaptive 3 (at the edge of its grid)" in claim.value
    ahead["constant"]["at_edge"] = True
    assert beat_the_best_constant({"a": ahead}).verdict == "not testable here"


def test_usable_constants_are_counted_within_a_factor_of_two() -> None:
    found = found_with({**losses(1.5, 0.5)})  # 2.0 is within twice 1.5 but not within twice 0.5
    claim = usable_constants({"a": found}, "3 constants")
    assert claim.verdict == "holds" and "constant 1, adaptive 2" in claim.value
    assert usable_constants({"a": found_with(losses(0.5, 1.5))}, "3 constants").verdict == "does not hold"
    lost = found_with(losses(None, 1.5))
    for rule in PAPER:
        lost[rule]["grid"] = [result(rule, lr, 0, None) for lr in GRID]
    assert "adaptive 0" in usable_constants({"a": lost}, "3 constants").value
