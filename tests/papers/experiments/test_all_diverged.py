"""What experiments say and draw where every run diverged; those with long curves are asked in files of their own."""

import json
from pathlib import Path

import pytest

from lorate_papers.experiments import Options
from papers.experiments.tiny import assert_sound_when_lost, lost

GALLERY = Path(__file__).parents[3] / "docs" / "gallery"


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("minibatch", "$."),
        ("recipe", "$."),
        ("recipe-minilm", "$."),
        ("alpha", "first step of the weights"),  # taken before they diverged
        ("spectrum", "suppress|square|curvature bounds"),  # of the start
    ],
)
@pytest.mark.filterwarnings("error")
def test_committed_results_as_if_all_had_diverged(name: str, holds: str) -> None:
    results = json.loads((GALLERY / name / "results.json").read_text(encoding="utf-8"))["results"]
    assert_sound_when_lost(name, lost(results), Options(), holds)


@pytest.mark.filterwarnings("error")
def test_conditions_whose_losses_are_all_lost() -> None:
    results = json.loads((GALLERY / "conditions" / "results.json").read_text(encoding="utf-8"))["results"]
    for one in results.values():
        one["losses"] = [[[None for _ in ends] for ends in by_seed] for by_seed in one["losses"]]
    assert_sound_when_lost("conditions", results, Options())
