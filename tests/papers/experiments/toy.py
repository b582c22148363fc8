"""A small experiment to test the machinery with; each call of a run leaves a line in a file."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from lorate.errors import LorateError
from lorate.sweep import Run
from lorate_papers.experiments import Claim, Drawing, Options, Results
from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.plots import Curve, Panel, Points, curve_figure


def square(number: int, log: str) -> dict[str, Any]:
    with Path(log).open("a") as file:
        file.write(f"{number}\n")
    if number == 13:
        raise KeyboardInterrupt
    if number == 15:
        os.kill(os.getpid(), signal.SIGTERM)
    if number == 14:
        raise LorateError("14 is not squared.")
    return {"square": number**2, "threads": torch.get_num_threads()}


class Toy:
    title = "Squares <of> numbers"
    summary = "It squares numbers."
    takes = ("data",)
    log = ""
    numbers: tuple[int, ...] = (1, 2, 3)
    protocols: ClassVar = {"sum": "Own <numbers>.", "": "Not in the paper."}
    judged, _protocol = Experiment.judged, Experiment._protocol

    def runs(self, options: Options) -> Sequence[Run]:
        return [Run(f"square-{n}", square, {"number": n + options.seed, "log": self.log}) for n in self.numbers]

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        values = [result["square"] for result in results.values()]
        curve = Curve("squares", [1, 2, 3], values, Points([1], [values[0]], [0.5]))
        figure = curve_figure([Panel("square", [curve])], "number")
        return [Drawing("squares", "Squares.", "Of numbers.", "They grow.", figure)]

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        total = sum(result["square"] for result in results.values())
        return [Claim.decide("The sum is 14.", f"{total}", total == 14), Claim.decide("Unknown.", "–", None)]


EXPERIMENT = Toy()
