"""Experiments that anybody can repeat with one command, ``lorate reproduce NAME``; each ends in a table of claims.

To add one, write a package like those here, with an `Experiment`, and name it in `EXPERIMENTS`.
"""

import ast
from collections.abc import Collection
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from lorate.errors import LorateError
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Experiment, Options, Results

EXPERIMENTS = {
    "alpha": "lorate_papers.experiments.alpha:EXPERIMENT",
    "spectrum": "lorate_papers.experiments.spectrum:EXPERIMENT",
    "recipe": "lorate_papers.experiments.recipe:EXPERIMENT",
    "recipe-minilm": "lorate_papers.experiments.recipe:MINILM",
    "recipe-smollm2": "lorate_papers.experiments.recipe:SMOLLM2",
    "attention": "lorate_papers.experiments.attention:EXPERIMENT",
    "attention-limits": "lorate_papers.experiments.attention_limits:EXPERIMENT",
    "llm": "lorate_papers.experiments.llm:EXPERIMENT",
    "smollm2": "lorate_papers.experiments.smollm2:EXPERIMENT",
    "logistic": "lorate_papers.experiments.logistic:EXPERIMENT",
    "conditions": "lorate_papers.experiments.conditions:EXPERIMENT",
    "bounded": "lorate_papers.experiments.bounded:EXPERIMENT",
    "minibatch": "lorate_papers.experiments.minibatch:EXPERIMENT",
    "burer-monteiro": "lorate_papers.experiments.burer_monteiro:EXPERIMENT",
    "rules": "lorate_papers.experiments.rules:EXPERIMENT",
    "resnet": "lorate_papers.experiments.resnet:EXPERIMENT",
    "efficientnet": "lorate_papers.experiments.efficientnet:EXPERIMENT",
    "full-vs-lora": "lorate_papers.experiments.full_vs_lora:EXPERIMENT",
}
"""Where each experiment stands, ``module:object``; imported when it is asked for."""


def load_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        LorateError: there is none.

    >>> load_experiment("attention").title
    'The solvable attention model'
    """
    if name not in EXPERIMENTS:
        near = get_close_matches(name.lower().replace("_", "-"), EXPERIMENTS, 1)
        there = f"did you mean {near[0]}? There" if near else "there"
        raise LorateError(f"There is no experiment {name!r}; {there} are: {', '.join(EXPERIMENTS)}.")
    module, _, attribute = EXPERIMENTS[name].partition(":")
    experiment: Experiment = getattr(import_module(module), attribute)
    return experiment


def taking(word: str) -> list[str]:
    """The experiments that take the user's own ``data`` or ``model``: read in their files, which are not imported.

    >>> taking("model")[-1]
    'resnet'
    """
    return [name for name, place in EXPERIMENTS.items() if word in _takes(*place.split(":"))]


def _takes(module: str, attribute: str) -> Collection[str]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and attribute in map(ast.unparse, node.targets):
            keywords = node.value.keywords if isinstance(node.value, ast.Call) else []
            return next((ast.literal_eval(one.value) for one in keywords if one.arg == "takes"), ())
    return ()


__all__ = ["EXPERIMENTS", "Claim", "Drawing", "Experiment", "Options", "Results", "Run", "load_experiment", "taking"]
