"""Experiments that anybody can repeat with one command, ``lorate reproduce NAME``; each ends in a table of claims.

To add one, write a module with an object that fits `lorate.experiments.experiment.Experiment` and name it in
`EXPERIMENTS`.
"""

from importlib import import_module

from lorate.errors import LorateError
from lorate.experiments.experiment import Claim, Drawing, Experiment, Options, Results, Run

EXPERIMENTS = {
    "attention": "lorate.experiments.attention:EXPERIMENT",
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
