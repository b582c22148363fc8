"""What is run, in the full and in the quick form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorate_papers.experiments.experiment import Options
from lorate_papers.training.tuning import constants

Adapter = Mapping[str, Any] | None
"""Fields of `AdapterSpec`; None trains all weights."""

TASKS = {"small-lm": 8, "resnet": 32}
"""Workloads, with their batch sizes."""
RANKS = (1, 4, 16)
SCALING = 2
"""alpha over rank."""
FULL_TUNING = "all weights"
VARIANTS: dict[str, Adapter] = {
    FULL_TUNING: None,
    **{f"LoRA, r = {rank}": {"rank": rank, "alpha": SCALING * rank} for rank in RANKS},
}
LORA = tuple(name for name, adapter in VARIANTS.items() if adapter is not None)
OPTIMIZER = "adamw"
EVALUATIONS = 12
"""Measurements of the held-out loss in a run, after the first."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        steps: of training.
        seeds: starts of each variant.
        points: learning rates in a grid.
    """

    steps: int
    seeds: int
    points: int


FULL = Size(180, 3, 5)
QUICK = Size(24, 2, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(adapter: Adapter, options: Options) -> tuple[float, ...]:
    """Learning rates: as many for all weights as for LoRA, whose best ones are larger."""
    lowest = 2e-4 if adapter is None else 1e-3
    return constants(lowest, 30 * lowest, size(options).points)


def run_name(task: str, variant: str) -> str:
    """Of the run of a variant."""
    adapter = VARIANTS[variant]
    return f"{task}-" + ("full" if adapter is None else f"rank-{adapter['rank']}")
