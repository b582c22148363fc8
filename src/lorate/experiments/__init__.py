"""Experiments that anybody can repeat with one command, ``lorate reproduce NAME``; each ends in a table of claims.

To add one, write a module with an object that fits `lorate.experiments.experiment.Experiment` and name it in
`EXPERIMENTS`.
"""

from importlib import import_module

from lorate.errors import LorateError
from lorate.experiments.experiment import Claim, Drawing, Experiment, Options, Results, Run

EXPERIMENTS = {
    "alpha": "lorate.experiments.alpha:EXPERIMENT",
    "attention": "lorate.experiments.attention:EXPERIMENT",
    "llm": "lorate.experiments.llm:EXPERIMENT",
    "logistic": "lorate.experiments.logistic:EXPERIMENT",
    "bounded": "lorate.experiments.bounded:EXPERIMENT",
    "burer-monteiro": "lorate.experiments.burer_monteiro:EXPERIMENT",
    "rules": "lorate.experiments.rules:EXPERIMENT",
    "resnet": "lorate.experiments.resnet:EXPERIMENT",
    "full-vs-lora": "lorate.experiments.full_vs_lora:EXPERIMENT",
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
        raise LorateError(f"There is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}.")
    module, _, attribute = EXPERIMENTS[name].partition(":")
    experiment: Experiment = getattr(import_module(module), attribute)
    return experiment


__all__ = ["EXPERIMENTS", "Claim", "Drawing", "Experiment", "Options", "Results", "Run", "load_experiment"]
