"""Theory and simulation read from the results, in the form that figures and claims use."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorate.experiments.attention.settings import Line, lines, simulation_name, theory_name
from lorate.experiments.experiment import Options, Results

Numbers = NDArray[np.float64]
Seeds = dict[str, list[float]]
"""What a simulation measured: each number, one value a seed."""
Measure = Callable[[Seeds, Line], Numbers]


@dataclass(frozen=True)
class Point:
    """A simulated point and the theory at the same place.

    Attributes:
        at: the place.
        mean: over the seeds.
        error: standard error of the mean.
        theory: interpolated between the places of the line, nan outside.
    """

    at: float
    mean: float
    error: float
    theory: float


def mean_and_error(values: Sequence[float] | Numbers) -> tuple[float, float]:
    """Mean over the seeds and its standard error."""
    numbers = np.asarray(values, dtype=float)
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers)))


def named(name: str) -> Measure:
    """A number that the simulation reports itself."""
    return lambda seeds, line: np.asarray(seeds[name])


def effective_noise(seeds: Seeds, line: Line) -> Numbers:
    """Half the label noise plus the mismatch of the map."""
    Q0, M, Q = (np.asarray(seeds[name]) for name in ("Q0", "M", "Q"))
    return np.asarray(line.fixed["noise"] / 2 + Q0 - 2 * M + Q)


def effective_noise_beta(seeds: Seeds, line: Line) -> Numbers:
    """The same after the best recalibration."""
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
