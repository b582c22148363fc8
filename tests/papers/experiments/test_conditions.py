"""When the paper's rules beat a constant rate: how runs are read, and claims that can come out either way."""

from typing import Any

import numpy as np
import pytest

from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.conditions import plan
from lorate_papers.experiments.conditions.readings import best, lead, spacings
from papers.experiments.tiny import QUICK, only, verdicts

INF = float("inf")


def test_the_constant_is_chosen_for_each_length_by_the_median_of_the_seeds() -> None:
    lost = [[0.1, 0.1], [0.1, 0.1], [INF, INF]]  # one seed diverged
    table = np.array([[[5.0, 4.0]] * 3, [[1.0, 9.0], [1.0, 1.0], [7.0, 8.0]], [[2.0, INF]] * 3, lost])
    assert np.exp(best(table)) == pytest.approx(np.array([[1.0, 4.0], [1.0, 4.0], [7.0, 4.0]]))


def test_a_coarse_grid_is_averaged_over_where_it_begins() -> None:
    table = np.array([[[4.0]], [[1.0]], [[2.0]], [[16.0]]])
    assert best(table, 2) == pytest.approx(np.log(2.0) / 2) and best(table) == 0.0
    assert spacings(Options()) == [1, 2] and spacings(QUICK) == [1, 2]


def made(lead_at: dict[float, list[float]]) -> dict[str, Any]:
    """Results in which every rule's loss is so many factors of two below the constant rate's, by start and length."""
    points = plan.QUICK.points
    results = {}
    for rule in plan.RULES:
        for start, leads in lead_at.items():
            ends = [[2.0 ** -(lead if rule != "constant" else 0) * wobble for lead in leads] for wobble in (1, 1.01)]
            results[plan.run_name(rule, start)] = {"losses": [ends] * points}
    return results


def test_leads_are_in_factors_of_two() -> None:
    found = lead(made({0.001: [1.0, 2.0], 0.1: [0.0, -1.0]}), "normalized", 0.1)
    assert found == pytest.approx(np.array([[0.0, -1.0]] * 2))


def test_claims_come_out_either_way() -> None:
    found = verdicts("conditions", made({0.001: [3.0, 2.0], 0.1: [2.0, 1.0]}))
    assert only(found, "Each of the paper's") == only(found, "At least one") == "holds"
    assert only(found, "from a small start") == only(found, "after few steps") == "holds"
    found = verdicts("conditions", made({0.001: [-1.0, 0.0], 0.1: [1.0, 2.0]}))
    assert only(found, "Each of the paper's") == only(found, "At least one") == "does not hold"
    assert only(found, "from a small start") == only(found, "after few steps") == "does not hold"
    assert only(found, "one constant in a decade") == "not testable here", "no difference, no error"


def test_a_rule_that_diverges_with_every_constant_leaves_it_open() -> None:
    results = made({0.001: [1.0, 1.0], 0.1: [1.0, 1.0]})
    results["adaptive-std-0.001"]["losses"] = [[[None, None]] * 2] * plan.QUICK.points
    found = verdicts("conditions", results)
    assert only(found, "from a small start") == "not testable here"
    assert only(found, "Each of the paper's") == "does not hold" and only(found, "At least one") == "holds"


def test_losses_are_those_after_so_many_steps_and_none_once_lost() -> None:
    found = plan.losses_of_all_constants("constant", 0.1, (0.1, 1e4), [0], (1, 30), True)
    assert found["losses"][0][0][1] < found["losses"][0][0][0] < 2.5 and found["losses"][1][0][1] is None


@pytest.mark.parametrize(
    ("losses", "diverged", "expected"),
    [
        ([9.0, 8, 7, 6, 5], True, [8.0, 6.0, None, None]),
        ([9.0, 8, 7, 6, 5], False, [8.0, 6.0, 5.0, None]),
        ([9.0, 10, 9, 8, 11], False, [None, 8.0, None, None]),
    ],
    ids=["lost in its last step", "whole", "twice above its start"],
)
def test_the_loss_before_the_next_step_counts_unless_the_run_was_lost_there_or_above_its_start(
    losses: list[float], diverged: bool, expected: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"trace": {"step": [1, 2, 3, 4, 5], "loss": losses}, "steps": 5, "diverged": diverged}
    monkeypatch.setattr(plan, "train_under_rule", lambda *_, **__: run)
    assert plan.losses_of_all_constants("constant", 0.1, (1.0,), [0], (1, 3, 4, 30), True)["losses"] == [[expected]]


def test_the_figures() -> None:
    drawings = load_experiment("conditions").drawings(made({0.001: [1.0, 2.0], 0.1: [0.0, -1.0]}), QUICK)
    assert [drawing.name for drawing in drawings] == ["horizons", "spacing"]
    assert "normalized: 0.5" in drawings[0].description
