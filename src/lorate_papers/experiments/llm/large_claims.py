"""The claims about the large model, which runs with the constants of the small one."""

import math

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.llm.measured import closeness, ends, loss_in_words, regret
from lorate_papers.experiments.llm.settings import (
    CLOSE,
    LARGE_START,
    REGRET,
    RULES,
    SMALL_START,
    STARTS,
    large_model,
    run_name,
)
from lorate_papers.experiments.paper_rules import PAPER


def large_claims(results: Results, options: Options) -> list[Claim]:
    """What the winners of the small model do on the large one."""
    name = large_model(options)
    runs = {start: {rule: results[run_name(rule, start)]["large"] for rule in RULES} for start in STARTS}
    if any(run is None for found in runs.values() for run in found.values()):
        return [Claim.decide(f"The same is seen on {name}.", "the quick form runs no large model", None)]
    losses = {start: dict(zip(RULES, ends(found.values()).tolist(), strict=True)) for start, found in runs.items()}
    small, large = losses[SMALL_START], losses[LARGE_START]
    before = runs[SMALL_START]["constant"]["validation"]["loss"][0]
    lowest = min(*small.values(), *large.values())
    clear = CLOSE * max(0.0, before - lowest)  # one seed: smaller differences say nothing
    behind = max(small[rule] for rule in PAPER) - small["constant"]
    near, close = closeness(before, large)
    excess, words = regret({rule: min(small[rule], large[rule]) for rule in RULES})
    return [
        Claim.decide(
            f"The constants found on the small model lower the loss of {name} as well.",
            f"held-out loss {before:.3f} before; after the run from {STARTS[SMALL_START]} {_listed(small)}; from "
            f"{STARTS[LARGE_START]} {_listed(large)}; one seed, lower means by at least {clear:.3f}",
            all(loss < before - clear for loss in (*small.values(), *large.values())),
        ),
        Claim.decide(
            f"On {name} too the paper's rules end lower than the constant rate from {STARTS[SMALL_START]}.",
            f"held-out loss {_listed({rule: small[rule] for rule in ('constant', *PAPER)})}; one seed, decided "
            f"beyond {clear:.3f}",
            None if math.isnan(behind) or abs(behind) <= clear else behind < 0,
        ),
        Claim.decide(
            f"On {name} too they come close to it from {STARTS[LARGE_START]}.",
            f"{near}; one seed",
            close,
        ),
        Claim.decide(
            f"On {name} too auto ends as low as the best of the others, each from its better start.",
            f"held-out loss {words}; as low means at most {REGRET:.0%} above; one seed",
            excess <= REGRET,
        ),
    ]


def _listed(losses: dict[str, float]) -> str:
    return ", ".join(f"{loss_in_words(loss)} ({rule})" for rule, loss in losses.items())
