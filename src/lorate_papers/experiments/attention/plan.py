"""What is run, in the full and in the quick form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lorate.sweep import Run
from lorate_papers.experiments.attention import work
from lorate_papers.experiments.experiment import Options

LINEAR = {"alpha": 0.1, "tokens": 3, "kappa0": 1.0, "kappa": 1.0, "noise": 0.5}
NARROW = {"alpha": 0.2, "tokens": 2, "kappa0": 0.5, "kappa": 1.0, "noise": 0.5}
SHORT = {"alpha": 0.3, "lam": 0.03, "tokens": 2, "kappa0": 1.0, "kappa": 1.0, "noise": 0.5}
FEW_DATA = {"alpha": 0.05, "lam": 0.3, "tokens": 3, "kappa0": 1.0, "kappa": 1.0, "noise": 0.1}


class Size(NamedTuple):
    """How much is spent."""

    dimension: int  # D of the simulations
    seeds: int  # random instances of every simulated point
    active_seeds: int  # the same for active selection, whose gain is small
    dimensions: tuple[int, ...]  # of the test that the distance to the theory shrinks; empty for none
    dimension_seeds: int  # instances of each of them: in a low dimension they scatter
    line: int  # points of a theory line
    points: int  # quasi-random points of the theory, linear attention
    softmax_points: int  # the same for softmax
    descents: int  # instances on which gradient descent runs under every rule
    steps: int  # of it
    free_steps: int  # of LoRA with B and A free to differ
    random_alphas: tuple[float, ...]  # fine-tuning data of the runs from random starts
    random_dimension: int  # their D
    random_seeds: int  # their instances
    random_starts: int  # random starts an instance
    random_steps: int  # their steps


FULL = Size(
    dimension=100,
    seeds=6,
    active_seeds=12,
    dimensions=(30, 60, 120),
    dimension_seeds=24,
    line=20,
    points=2**13,
    softmax_points=2**12,
    descents=3,
    steps=500,
    free_steps=600,
    random_alphas=(0.4, 0.5, 0.7, 1.0, 2.0, 3.0),
    random_dimension=60,
    random_seeds=3,
    random_starts=6,
    random_steps=300,
)
QUICK = Size(
    dimension=40,
    seeds=5,
    active_seeds=6,
    dimensions=(),
    dimension_seeds=0,
    line=8,
    points=2**11,
    softmax_points=2**10,
    descents=2,
    steps=200,
    free_steps=200,
    random_alphas=(0.5, 3.0),
    random_dimension=30,
    random_seeds=1,
    random_starts=6,
    random_steps=150,
)


def size(options: Options) -> Size:
    """The size of the full or the quick form."""
    return QUICK if options.quick else FULL


@dataclass(frozen=True)
class Line:
    """One line of theory, and the points simulated on it."""

    figure: str  # where it is drawn
    label: str  # for the legend
    over: str  # the argument of `lorate_papers.attention.predict` that varies
    fixed: Mapping[str, Any]  # its other arguments
    grid: Sequence[float]  # where the theory is solved
    simulated: Sequence[float]  # where the simulation runs

    @property
    def slug(self) -> str:
        """A name for files."""
        plain = "".join(letter if letter.isascii() and letter not in "=" else " " for letter in self.label)
        return "-".join([self.figure, *plain.split()])


def lines(options: Options) -> list[Line]:
    """All lines, the slowest first."""
    count = size(options).line
    quick = options.quick
    few: tuple[float, ...] = (1.0, 2.0, 4.0) if quick else (0.5, 0.7, 1.0, 2.0, 3.0, 5.0)
    samples = _spread(0.5, 6.0, count)
    decays = _spread(0.003, 1.0, count)
    mismatch = _spread(0.001, 0.8, count)
    drawn = []
    for attention in ("softmax", "linear"):
        fixed = {**SHORT, "attention": attention, "finetune_lam": 0.1, "reused": True}
        grid = (2.0, 4.0) if quick else (2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
        # linear attention has no lower limit here, softmax does not settle below
        places = grid if attention == "softmax" else _spread(2.0, 6.0, count)
        drawn.append(Line("softmax", attention, "finetune_alpha", fixed, places, grid))
    for lam in (0.01, 0.1, 0.5):
        fixed = {**LINEAR, "lam": lam, "finetune_lam": 0.5}
        drawn.append(Line("decay", f"λ = {lam:g}", "finetune_alpha", fixed, samples, few))
    for finetune_lam in (0.05, 0.5, 1.0):
        fixed = {**LINEAR, "lam": 0.1, "finetune_lam": finetune_lam}
        points = () if finetune_lam == 0.5 else few  # that one is simulated for the figure above
        drawn.append(Line("finetune-decay", f"λ′ = {finetune_lam:g}", "finetune_alpha", fixed, samples, points))
    few_decays: tuple[float, ...] = (0.003, 0.03, 0.3) if quick else (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
    drawn.append(Line("noise", "effective noise", "lam", LINEAR, decays, few_decays))
    few_decays = (0.001, 0.1, 0.4) if quick else (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
    for reused, label in ((True, "reused sequences"), (False, "fresh sequences")):
        fixed = {**NARROW, "finetune_alpha": 3.0, "finetune_lam": 0.5, "reused": reused}
        drawn.append(Line("mismatch", label, "lam", fixed, mismatch, few_decays))
    return drawn


def theory_name(line: Line) -> str:
    """The run that solves a line."""
    return f"theory-{line.slug}"


def simulation_name(line: Line, at: float) -> str:
    """The run that simulates a point of a line."""
    return f"simulation-{line.slug}-at-{at:g}"


BRIDGE = {**LINEAR, "lam": 0.1, "finetune_alpha": 3.0, "finetune_lam": 0.5}
"""The problem that gradient descent solves."""
RULES = ("theory", "sharp", "majorizer", "adaptive-loss")
ACTIVE = {**FEW_DATA, "finetune_alpha": 1.5, "finetune_lam": 0.2}
FRACTIONS = (0.05, 0.1, 0.3, 1.0)


def _spread(first: float, last: float, count: int) -> tuple[float, ...]:
    """Evenly in the logarithm, rounded so that file contents stay readable."""
    return tuple(float(f"{value:.5g}") for value in np.geomspace(first, last, count))


def _line_runs(options: Options, how: Size) -> list[Run]:
    seeds = options.seeds(how.seeds)
    runs = []
    for line in lines(options):
        points = how.softmax_points if line.fixed.get("attention") == "softmax" else how.points
        given: dict[str, Any] = {"over": line.over, "grid": line.grid, "fixed": line.fixed, "points": points}
        runs.append(Run(theory_name(line), work.theory_line, given))
    for line in lines(options):
        for at in line.simulated:
            fixed = {**line.fixed, line.over: at}
            given = {"fixed": fixed, "dimension": how.dimension, "seeds": seeds}
            runs.append(Run(simulation_name(line, at), work.simulated_point, given))
    return runs


def _bridge_runs(options: Options, how: Size) -> list[Run]:
    runs = []
    for seed in options.seeds(how.descents):
        common = {"fixed": BRIDGE, "dimension": how.dimension, "seed": seed}
        steps = {"steps": how.steps}
        runs.append(Run(f"rules-seed-{seed}", work.descent_under_rules, {**common, "rules": RULES, **steps}))
    for alpha in how.random_alphas:
        fixed = {**BRIDGE, "finetune_alpha": alpha}
        for seed in options.seeds(how.random_seeds):
            given = {"fixed": fixed, "starts": how.random_starts, "steps": how.random_steps}
            given |= {"dimension": how.random_dimension, "seed": seed}
            runs.append(Run(f"random-alpha-{alpha:g}-seed-{seed}", work.descent_from_random, given))
    for seed in options.seeds(how.descents):
        given = {"fixed": BRIDGE, "steps": how.free_steps, "dimension": how.dimension, "seed": seed}
        runs.append(Run(f"free-seed-{seed}", work.descent_left_free, given))
    runs.append(Run("bridge-theory", work.theory_point, {"fixed": BRIDGE, "points": how.points}))
    return runs


def _other_runs(options: Options, how: Size) -> list[Run]:
    seeds = options.seeds(how.seeds)
    given: dict[str, Any] = {"fixed": ACTIVE, "fractions": FRACTIONS, "points": how.points}
    given |= {"dimension": how.dimension, "seeds": options.seeds(how.active_seeds)}
    runs = [Run("active", work.active_selection, given)]
    gaussian = {"fixed": {**BRIDGE, "finetune_alpha": 1.0}, "dimension": how.dimension, "seeds": seeds}
    runs.append(Run("gaussian", work.gaussian_point, {**gaussian, "points": how.points}))
    for dimension in how.dimensions:
        simulated = {"fixed": BRIDGE, "dimension": dimension, "seeds": options.seeds(how.dimension_seeds)}
        runs.append(Run(f"dimension-{dimension}", work.simulated_point, simulated))
    return runs


def runs(options: Options) -> list[Run]:
    """The slow ones first, so that the last ones fill the gaps."""
    how = size(options)
    return [*_bridge_runs(options, how), *_line_runs(options, how), *_other_runs(options, how)]
