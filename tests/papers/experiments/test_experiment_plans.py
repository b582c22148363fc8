"""What every experiment must fulfil: plain arguments, unique names, the same plan each time, seeds of its own."""

import json
import re
from typing import Any

import pytest

from lorate.runs.strict_json import encode
from lorate_papers.experiments import EXPERIMENTS, Options, load_experiment

NAMES = ("logistic", "bounded", "minibatch", "burer-monteiro", "rules")


def seeds_in(value: Any) -> set[int]:
    if isinstance(value, dict):
        own = {value["seed"]} if isinstance(value.get("seed"), int) else set()
        return own.union(*(seeds_in(entry) for entry in value.values())) | set(value.get("seeds", []))
    return set()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quick", [True, False])
def test_plans(name: str, quick: bool) -> None:
    assert name in EXPERIMENTS
    experiment, options = load_experiment(name), Options(quick=quick, seed=2)
    runs = experiment.runs(options)
    assert len({run.name for run in runs}) == len(runs)
    assert all(re.fullmatch(r"[\w=.,-]+", run.name, re.ASCII) for run in runs)
    plain = json.loads(encode([run.arguments for run in runs]))
    assert plain == json.loads(encode([run.arguments for run in experiment.runs(options)]))
    found = set().union(*(seeds_in(dict(run.arguments)) for run in runs))
    assert found and all(seed // 1000 == 2 or seed == 2 for seed in found)
    assert len({seed for seed in found if seed >= 1000}) >= 3 or name == "attention"


@pytest.mark.parametrize("name", NAMES)
def test_titles_and_summaries_are_sentences(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.title and experiment.summary.endswith(".") and set(experiment.takes) <= {"data", "model"}
