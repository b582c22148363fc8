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
