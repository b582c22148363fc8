"""The claims: those of the experiment ``llm`` that need no rule but the paper's."""

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.llm.claims import come_close, lead_shrinks, wins
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.smollm2.plan import by_rule


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    found = by_rule(results)
    return [*(wins(found, rule) for rule in PAPER), come_close(found), lead_shrinks(found)]
