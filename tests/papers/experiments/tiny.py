"""Run the runs of an experiment one after the other, in its smallest form, as the runner would keep them."""

import json
from typing import Any

from lorate.runs.strict_json import encode
from lorate_papers.experiments import Options, load_experiment

QUICK = Options(quick=True)


def results_of(name: str) -> dict[str, Any]:
    """Results after a trip through JSON; the quick form, whose sizes a test has made smaller."""
    runs = load_experiment(name).runs(QUICK)
    return {run.name: json.loads(encode(run.function(**run.arguments))) for run in runs}


def verdicts(name: str, results: dict[str, Any], options: Options = QUICK) -> dict[str, str]:
    """Verdict by claim."""
    return {claim.claim: claim.verdict for claim in load_experiment(name).claims(results, options)}


def only(found: dict[str, str], part: str) -> str:
    """The verdict of the one claim that holds some words."""
    (verdict,) = (verdict for claim, verdict in found.items() if part in claim)
    return verdict
