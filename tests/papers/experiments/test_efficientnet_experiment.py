"""The experiment on EfficientNet-Lite0 in its smallest form."""

import copy
from typing import Any

import pytest

from lorate_papers.experiments import load_experiment
from lorate_papers.experiments.efficientnet import plan
from papers.experiments.tiny import QUICK, assert_sound_when_lost, lost, only, results_of, verdicts


@pytest.fixture(scope="module")
def results() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", plan.Size(2, 1, 1))
        yield results_of("efficientnet")


def test_every_figure_and_claim_comes_out(results: dict[str, Any]) -> None:
    found = verdicts("efficientnet", results)
    assert len(found) == 6 and only(found, "stops growing") == "not testable here"
    drawings = load_experiment("efficientnet").drawings(results, QUICK)
    assert [drawing.name for drawing in drawings] == ["paper-rules", "constants"]
    assert all(drawing.description and drawing.figure.axes for drawing in drawings)


def test_a_constant_with_which_a_seed_ends_above_its_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*given: Any, **_: Any) -> Any:
        _, _, rule, lr, steps, _, seed = given
        held_out = 6.4 if (rule, lr, seed) == ("constant", 1.0, 8) else 1.0
        end = {"final_loss": -lr, "final_validation": held_out, "diverged": False, "rises": 0}
        return {"lr": lr, "seed": seed, "steps": steps, "validation": {"loss": [3.0]}, **end}

    monkeypatch.setattr(plan, "train_under_rule", train)
    found = plan.tuned_rule("constant", (0.3, 1.0), (7, 8), 50, True)
    assert found["refused"] == [1.0] and found["best"] == 0.3


def test_nothing_is_compared_where_every_run_diverged(results: dict[str, Any]) -> None:
    assert_sound_when_lost("efficientnet", lost(results))


def test_claims_come_out_either_way(results: dict[str, Any]) -> None:
    for best, verdict in (("normalized", "holds"), ("constant", "does not hold")):
        made = copy.deepcopy(results)
        for rule in plan.TUNED:
            made[f"tuned-{rule}"]["at_edge"] = False
            for run in made[f"tuned-{rule}"]["runs"]:
                run.update(final_loss=0.1 if rule == best else 1.0, diverged=False)
        assert only(verdicts("efficientnet", made), "normalized is the best one") == verdict
