"""Claims that compare rules at their best constants."""

import pytest

from lorate_papers.experiments import load_experiment
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.rule_claims import beat_the_best_constant, other_scales, same_scale

RUNS = ("runs", "large", "small")


@pytest.mark.parametrize(
    ("adaptive", "edge", "verdict"),
    [
        (1.0, None, "holds"),
        (3.0, None, "does not hold"),
        (3.0, "adaptive", "not testable here"),  # a constant that was not tried may be better
        (3.0, "constant", "does not hold"),  # it would only be better still
        (1.0, "constant", "not testable here"),
        (1.0, "adaptive", "holds"),
    ],
)
def test_a_loser_at_the_edge_of_its_grid_leaves_the_claim_open(adaptive: float, edge: str | None, verdict: str) -> None:
    ends = {"constant": 2.0, **dict.fromkeys(PAPER, 1.0), "adaptive": adaptive}
    by_rule = {
        rule: {"at_edge": rule == edge, "runs": [{"final_loss": loss, "diverged": False}], "refused": [], "grid": []}
        for rule, loss in ends.items()
    }
    claim = beat_the_best_constant({"rank 8": by_rule})
    assert claim.verdict == verdict
    assert ("edge of its grid" in claim.value) == (edge is not None)


def test_a_constant_that_was_lower_but_diverged_on_another_start_is_named() -> None:
    run = {"final_loss": 2.0, "diverged": False}
    grid = [{"lr": 0.3, "final_loss": 2.0}, {"lr": 1.0, "final_loss": 1.0}, {"lr": 3.0, "final_loss": None}]
    one = {"at_edge": False, "best": 0.3, "refused": [1.0, 3.0], "grid": grid, **{key: [run] for key in RUNS}}
    settings = {"rank 8": dict.fromkeys(("constant", *PAPER), one)}
    told = "; 1 ended lower on one start, at 1, and diverged on another)"
    assert f"rank 8 (best 0.3{told}" in other_scales(settings).value
    assert f"constant 2 (with 0.3{told}, adaptive 2 (with" in beat_the_best_constant(settings).value


@pytest.mark.parametrize("name", ["logistic", "rules", "resnet", "efficientnet"])
def test_the_protocol_says_which_constant_counts_as_best(name: str) -> None:
    assert load_experiment(name).protocols[""].endswith("of those with which no start diverges.")


def test_rules_that_all_diverged_are_not_compared() -> None:
    one = {"at_edge": False, "best": 0.3, "refused": [], "grid": [], "runs": [{"final_loss": None, "diverged": True}]}
    settings = {"rank 8": {rule: {**one, "mean step": one["runs"]} for rule in ("constant", *PAPER)}}
    assert beat_the_best_constant(settings).verdict == "not testable here"
    assert same_scale(settings, "mean step", "Lower.").verdict == "not testable here"
