"""Theory and simulation read from the results, in the form that figures and claims use."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorate_papers.experiments.attention.plan import Line, lines, simulation_name, theory_name
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.training.measures import Numbers, mean_and_error

Seeds = dict[str, list[float]]
"""What a simulation measured: each number, one value per seed."""
Measure = Callable[[Seeds, Line], Numbers]
REACHED = 1e-3
"""Training loss above the global minimum, relative, below which a descent has found it and not a worse minimum."""


@dataclass(frozen=True)
class Point:
    """A simulated point and the theory at the same place."""

    at: float  # the place
    mean: float  # over the seeds
    error: float  # standard error of the mean
    theory: float  # interpolated between the places of the line, nan outside


def named(name: str) -> Measure:
    """A number that the simulation reports itself."""
    return lambda seeds, line: np.asarray(seeds[name])


def effective_noise(seeds: Seeds, line: Line) -> Numbers:
    """Half the label noise plus the mismatch of the map."""
    Q0, M, Q = (np.asarray(seeds[name]) for name in ("Q0", "M", "Q"))
    return np.asarray(line.fixed["noise"] / 2 + Q0 - 2 * M + Q)


def gain_of(seeds: Seeds, beta: float) -> Numbers:
    r"""How much a recalibration $\beta$ lowers the effective noise, $(1 - \beta^2) Q - 2 (1 - \beta) M$."""
    M, Q = (np.asarray(seeds[name]) for name in ("M", "Q"))
    return np.asarray((1 - beta**2) * Q - 2 * (1 - beta) * M)


def effective_noise_beta(seeds: Seeds, line: Line) -> Numbers:
    """The same after the best recalibration of each map, M / Q as it was drawn."""
    Q0, M, Q = (np.asarray(seeds[name]) for name in ("Q0", "M", "Q"))
    return np.asarray(line.fixed["noise"] / 2 + Q0 - M**2 / Q)


def effective_noise_reused(seeds: Seeds, line: Line) -> Numbers:
    """What is left of it on the sequences of pre-training, from the training loss."""
    T, noise = line.fixed["tokens"], line.fixed["noise"]
    train_loss: Numbers = np.asarray(seeds["train_loss"])
    seen: Numbers = (train_loss - noise * (T - 1) / (2 * T)) * T / (T + 1)
    return seen


def of_figure(options: Options, figure: str) -> list[Line]:
    """The lines of a figure."""
    return [line for line in lines(options) if line.figure == figure]


def theory(results: Results, line: Line, name: str) -> tuple[list[float], list[float]]:
    """Places and values of a theory line, where it was solved and is stable."""
    rows: list[dict[str, Any]] = results[theory_name(line)]["rows"]
    return [row["at"] for row in rows], [math.nan if row[name] is None else row[name] for row in rows]


def success(results: Results, alpha: float, start: str) -> tuple[float, float]:
    """Share of the descents from a kind of start that reach the global minimum, and its standard error."""
    gaps = [
        gap
        for name, run in results.items()
        if name.startswith(f"random-alpha-{alpha:g}-seed-")
        for gap in run[f"{start} gap"]
    ]
    share = sum(gap < REACHED for gap in gaps) / len(gaps)
    return share, math.sqrt(share * (1 - share) / len(gaps))


def simulated(results: Results, line: Line, name: str, measure: Measure | None = None) -> list[Point]:
    """The simulated points of a line next to the theory's column ``name``."""
    places, values = theory(results, line, name)
    found = []
    for at in line.simulated:
        seeds: Any = results[simulation_name(line, at)]
        mean, error = mean_and_error((measure or named(name))(seeds, line))
        expected = np.interp(math.log(at), np.log(places), values, left=math.nan, right=math.nan)
        found.append(Point(at, mean, error, float(expected)))
    return found
