"""Run the runs of an experiment one after the other, in its smallest form, as the runner would keep them."""

import json
import re
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


def lost(value: Any) -> Any:
    """The same results as if every run had diverged: no loss at the end, nothing measured after the start."""
    if isinstance(value, list):
        return [lost(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    made = {key: lost(entry) for key, entry in value.items()}
    if "diverged" in made:
        made |= {"diverged": True, **{key: None for key in LOSSES & made.keys()}}
        made.pop("relative_sq", None)
        if "validation" in made:
            made["validation"] = {key: column[:1] for key, column in made["validation"].items()}
        if "rows" in made:
            made["rows"] = made["rows"][:1]
    return made


LOSSES = {"final_loss", "final_validation", "loss", "merged"}
NO_NUMBER = re.compile(r"\b(nan|inf)\b")


def assert_sound_when_lost(name: str, results: dict[str, Any], options: Options = QUICK, holds: str = "$.") -> None:
    """Where every run diverged nothing is compared: no claim holds but those meant, and no number is none.

    Args:
        name: of the experiment.
        results: see `lost`.
        options: of the runs.
        holds: a pattern of the claims that may hold, as they are not about losses.
    """
    experiment = load_experiment(name)
    for claim in experiment.claims(results, options):
        assert claim.verdict != "holds" or re.search(holds, claim.claim), claim
        assert not NO_NUMBER.search(claim.value), claim
    for drawing in experiment.drawings(results, options):
        assert not NO_NUMBER.search(drawing.description), drawing
        for axes in drawing.figure.axes:  # one that cannot be logarithmic says so only now
            assert len(axes.get_xticks()) + len(axes.get_yticks())
