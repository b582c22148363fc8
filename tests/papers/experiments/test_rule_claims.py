"""Claims that compare rules at their best constants."""

import pytest

from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.rule_claims import beat_the_best_constant


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
        rule: {"at_edge": rule == edge, "runs": [{"final_loss": loss, "diverged": False}]}
        for rule, loss in ends.items()
    }
    claim = beat_the_best_constant({"rank 8": by_rule})
    assert claim.verdict == verdict
    assert ("edge of its grid" in claim.value) == (edge is not None)
