"""The figure."""

import numpy as np

from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.llm.plan import STARTS, run_name
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels
from lorate_papers.experiments.smollm2.plan import RULES, by_rule, seeds, size
from lorate_papers.training.measures import Numbers, trailing_mean

SMOOTHED = 20
"""Steps over which the loss is averaged."""


def smoothed(values: Numbers) -> Numbers:
    """Mean over the last `SMOOTHED` values."""
    return trailing_mean(values, SMOOTHED)


def draw(results: Results, options: Options) -> list[Drawing]:
    """Training loss and norm from each start."""
    found = by_rule(results)
    panels = []
    for start, title in STARTS.items():
        groups = [Group(rule, rule, found[run_name(rule, start)]["runs"]) for rule in RULES]
        columns = (
            Column(f"training loss, nats; A starts with {title}", "loss", change=smoothed),
            Column(f"norm of the adapters ‖V‖; A starts with {title}", "stacked_sq", log=True, change=np.sqrt),
        )
        panels += rule_panels(groups, columns)
    chosen = ", ".join(
        f"{rule} {' and '.join(format(found[run_name(rule, start)]['lr'], 'g') for start in STARTS)}" for rule in RULES
    )
    caption = (
        f"Batches of {size(options).batch}, mean over the last {SMOOTHED} steps; median of {len(seeds(options))} "
        f"seeds, band from the lowest to the highest. Constants from the two starts: {chosen}. A cross marks a run "
        "that diverged."
    )
    return [drawing("rules", "Each rule at its best constant.", caption, panels, "step")]
