"""The experiment on what fine-tuning can reach: its runs, and claims that can come out either way."""

import json
import math
from typing import Any

import pytest

from lorate.runs.strict_json import encode
from lorate_papers.experiments import Options
from lorate_papers.experiments.attention_limits import plan
from lorate_papers.experiments.attention_limits.claims import active_differences, decide
from lorate_papers.experiments.attention_limits.figures import draw
from lorate_papers.experiments.attention_limits.plan import BEST

FULL = Options()


def results(options: Options, **world: Any) -> dict[str, Any]:
    """What the runs would return in a world described by a few numbers."""
    w: dict[str, Any] = {
        "frozen": 1.5, "trained": 0.55, "bayes": 0.54, "best map": 0.4, "overlap": 0.95, "bayes overlap": 0.96,
        "passing": 0.96, "noise": 0.001, "gain": 0.006, "error gain": -0.02, "predicted": 1.0, "measured": None,
    } | world  # fmt: skip
    found: dict[str, Any] = {}
    for run in plan.runs(options):
        a = run.arguments
        if run.name.startswith("theory"):
            trained = {"overlap": w["overlap"], "error": w["trained"], "stable": True}
            rows = {**{f"{lam:g}": {**trained, "decay": lam} for lam in a["decays"]}, BEST: {**trained, "decay": 0.2}}
            rows["same map"] = {"q": 0.9, "overlap": w["bayes overlap"], "error": w["bayes"]}
            rows["best map"] = {"q": 0.9, "overlap": w["bayes overlap"] + 0.01, "error": w["best map"]}
            found[run.name] = {"lam": 0.03, "noise": 0.6, "frozen": w["frozen"], **rows}
        elif run.name.startswith("simulation"):
            spread = [w["noise"] * seed for seed, _ in enumerate(a["seeds"])]
            trained = w["trained"] if w["measured"] is None else w["measured"]
            names = (*(f"{lam:g}" for lam in a["decays"]), BEST)
            rows = {name: {"overlap": [0.95] * 6, "error": [trained + s for s in spread]} for name in names}
            rows["same map"] = {"overlap": [w["passing"] + s for s in spread], "error": [w["bayes"]] * len(spread)}
            found[run.name] = {"frozen": [w["frozen"] - s for s in spread], **rows}
        elif run.name == "active-theory":
            chosen = {"overlap": 0.9 + 0.006, "error": 0.2 - 0.02 * w["predicted"]}
            found[run.name] = {
                f"{s:g}": {"chosen": chosen, "as they come": {"overlap": 0.9, "error": 0.2}} for s in a["shares"]
            }
        else:
            spread = [0.01 * math.sin(seed) for seed in a["seeds"]]
            chosen = {
                "overlap": [0.9 + w["gain"] + 0.1 * s for s in spread],
                "error": [0.2 + w["error gain"] + s for s in spread],
            }
            plain = {"overlap": [0.9] * len(spread), "error": [0.2] * len(spread)}
            found[run.name] = {f"{s:g}": {"chosen": chosen, "as they come": plain} for s in a["shares"]}
    return json.loads(encode(found))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("place", "world"),
    [
        (0, {"trained": 1.6}),
        (1, {"measured": 1.6}),
        (2, {"overlap": 0.97}),
        (3, {"trained": 0.53}),
        (4, {"passing": 0.95}),
        (5, {"trained": 0.8}),
        (6, {"best map": 0.535}),
        (7, {"gain": -0.006}),
        (8, {"error gain": 0.02}),
        (9, {"predicted": 2.0}),
    ],
)
def test_every_claim_can_hold_and_fail(place: int, world: dict[str, Any]) -> None:
    assert decide(results(FULL), FULL)[place].verdict == "holds"
    assert decide(results(FULL, **world), FULL)[place].verdict == "does not hold"


def test_a_gain_within_its_error_is_left_open() -> None:
    assert decide(results(FULL, gain=0.0001), FULL)[7].verdict == "not testable here"


def test_a_theory_that_no_gain_would_match_as_well_is_not_confirmed() -> None:
    found = decide(results(FULL, predicted=0.02, **{"error gain": -0.0004}), FULL)
    assert found[9].verdict == "not testable here"


def test_the_best_weight_decay_leaves_less_than_its_neighbours() -> None:
    found = plan.theory(plan.MODEL, 0.5, (0.15, 0.4), 2**9)
    assert 0.2 < found[BEST]["decay"] < 0.3
    assert found["same map"]["error"] < found[BEST]["error"] < min(found["0.15"]["error"], found["0.4"]["error"])


def test_pairs_are_kept_together_over_the_batches() -> None:
    made = results(FULL)
    assert len(active_differences(made, "overlap", 0.02)) == plan.FULL.active_seeds
    seeds = [seed for run in plan.runs(FULL) if run.name.startswith("active-from") for seed in run.arguments["seeds"]]
    assert seeds == list(range(plan.FULL.active_seeds))


def test_an_adapter_that_vanishes_is_drawn_as_a_gap() -> None:
    made = results(FULL)
    made["theory-at-0.5"]["2"]["overlap"] = None
    assert decide(made, FULL)[2].verdict == "holds"
    assert [one.name for one in draw(made, FULL)] == ["bound", "active"]


def test_the_numbers_of_the_runs_fit_together() -> None:
    found = plan.theory(plan.MODEL, 1.0, (0.5, 50.0), 2**9)
    assert found["same map"]["error"] < found["0.5"]["error"] < found["frozen"]
    assert found["50"]["error"] == pytest.approx(found["frozen"])  # so much decay leaves the frozen map
    assert found["best map"]["error"] < found["same map"]["error"]
    measured = plan.simulation(plan.MODEL, 2.0, (0.5,), 24, (0, 1))
    assert len(measured["frozen"]) == 2 and max(measured["0.5"]["error"]) < max(measured["frozen"])
    assert min(measured["same map"]["overlap"]) > 0.7
    chosen = plan.selections(plan.ACTIVE, (0.04,), 16, (0, 1))["0.04"]
    assert all(len(row["error"]) == 2 and 0 < min(row["overlap"]) <= 1 for row in chosen.values())
