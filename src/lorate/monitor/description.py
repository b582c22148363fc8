"""A plain loop's run for ``lorate report``."""

from importlib.metadata import version
from pathlib import Path

import torch

from lorate.runs import RunDirectory
from lorate.runs.facts import now


def describe(optimizer: torch.optim.Optimizer, directory: Path) -> RunDirectory | None:
    """Make a directory of records a run that can be drawn, unless whoever runs it has done so.

    Returns:
        The run, which has to be ended by whoever called; None if it is not ours.
    """
    run = RunDirectory(directory)
    if run.run.exists():
        return None
    rule, name = getattr(optimizer, "rule", None), type(optimizer).__name__
    run.write_run(
        {
            "lorate": version("lorate"),
            "status": "running",
            "started": now(),
            "rule": {
                "name": getattr(rule, "name", name),
                "lr": float(optimizer.param_groups[0]["lr"]),
                "formula": getattr(rule, "formula", name),
            },
            "result": None,
        }
    )
    return run
