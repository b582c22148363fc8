"""The figures of logistic regression."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lorate.report import rule_colour
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.logistic.plan import (
    EMBEDDINGS,
    ESCAPE,
    PROVED,
    TUNED,
    only_of,
    run_name,
    seeds,
    size,
)
from lorate_papers.experiments.paper_rules import LARGE, PAPER, SMALL
from lorate_papers.experiments.plots import Curve, Panel
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels
from lorate_papers.training.measures import Result, column, least_since_peak

EPOCH = "epoch (step of full-batch descent)"
COLUMNS = (
    Column("training loss, nats", "loss", log=True),
    Column("squared gradient norm ‖∇J‖²", "grad_sq", log=True),
    Column("norm of the adapters ‖V‖", "stacked_sq", change=np.sqrt),
    Column("step size η", "eta", log=True),
)


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    drawings = []
    for rank in size(options).ranks:
        drawings += [_paper_rules(results, options, rank), _proved_rules(results, options, rank)]
    return [
        *drawings,
        _constants(results, options),
        *_embedded(results, options),
        _rates(results, options),
        _bounds(results, options),
        _ranks(results, options),
        _origin(results, options),
    ]


def _embedded(results: Results, options: Options) -> list[Drawing]:
    """The first and third kind of figures, for the embeddings of images."""
    found = only_of(EMBEDDINGS, results)
    drawings = [_paper_rules(found, options, rank) for rank in size(options).ranks] + [_constants(found, options)]
    return [
        replace(one, name=run_name(EMBEDDINGS, one.name), title=f"{one.title.rstrip('.')}, on embeddings of images.")
        for one in drawings
    ]


def _rules(name: str, title: str, caption: str, groups: Sequence[Group]) -> Drawing:
    return drawing(name, title, caption, rule_panels(groups, COLUMNS), EPOCH, log_x=True)


def _paper_rules(results: Results, options: Options, rank: int) -> Drawing:
    constant = results[f"tuned-constant-rank-{rank}"]
    groups = [Group(f"constant {constant['best']:.3g}", "constant", constant["runs"])]
    for name, scale in (("small", SMALL), ("large", LARGE)):
        groups.append(Group(f"constant {scale * constant['best']:.3g}", "constant", constant[name]))
    for rule in PAPER:
        tuning = results[f"tuned-{rule}-rank-{rank}"]
        groups.append(Group(f"{rule}, a = {tuning['best']:.3g}", rule, tuning["runs"]))
    caption = (
        f"Rank {rank}. Each rule at its best constant of {size(options).points} over three decades with "
        f"which no start diverged, and the constant "
        f"rate at a tenth and at ten times its best. {_starts(options)} A cross: the run diverged."
    )
    return _rules(f"paper-rules-rank-{rank}", f"The paper's rules, rank {rank}.", caption, groups)


def _proved_rules(results: Results, options: Options, rank: int) -> Drawing:
    groups = [
        Group(rule, rule, [results[f"proved-{rule}-rank-{rank}-seed-{seed}"] for seed in seeds(options)])
        for rule in PROVED
    ]
    caption = (
        f"Rank {rank}. The first four rules are given L, the fifth finds it; nothing is tuned. {_starts(options)} The "
        "step size of one-factor is the mean over the factors, one of which does not move."
    )
    return _rules(f"proved-rules-rank-{rank}", f"The rules with a proof, rank {rank}.", caption, groups)


def _starts(options: Options) -> str:
    return f"Line: median of {len(seeds(options))} starts; band: lowest to highest."


def _constants(results: Results, options: Options) -> Drawing:
    panels = []
    for rank in size(options).ranks:
        curves = []
        for rule in TUNED:
            tuning = results[f"tuned-{rule}-rank-{rank}"]
            points = [(run["lr"] / tuning["best"], run["final_loss"]) for run in tuning["grid"] if not run["diverged"]]
            lost = any(run["diverged"] for run in tuning["grid"])
            curves.append(
                Curve(rule, [x for x, _ in points], [y for _, y in points], colour=rule_colour(rule), broken=lost)
            )
        panels.append(Panel(f"final training loss, nats; rank {rank}", curves, log=True))
    caption = (
        f"One start, {size(options).steps} epochs. A curve ends with a cross at the last constant that did not "
        "diverge. The best constant of a rule is one with which no start diverged."
    )
    return drawing(
        "constants",
        "Sensitivity to the constant.",
        caption,
        panels,
        "constant, as a multiple of the rule's best",
        log_x=True,
    )


def _rates(results: Results, options: Options) -> Drawing:
    curves = []
    for rule in ("sharp", "adaptive-loss", "constant"):
        run = results[f"long-{rule}"]
        least = least_since_peak(column(run, "grad_sq"))
        curves.append(Curve(rule, column(run, "step").tolist(), least.tolist(), colour=rule_colour(rule)))
    last = size(options).long
    steps = np.geomspace(last / 10, last, 30)
    for label, order, dashes in (
        ("like 1/log T", 1 / np.log(steps), "dotted"),
        ("like 1/√T", steps**-0.5, "dashed"),
        ("like 1/T", 1 / steps, "dashdot"),
    ):
        level = float(np.interp(steps[0], curves[0].x, curves[0].y)) * order / order[0]
        curves.append(Curve(label, steps.tolist(), level.tolist(), colour="#5b6675", dashes=dashes))
    panels = [Panel("least ‖∇J‖² since its peak", curves, log=True)]
    caption = (
        f"Rank {size(options).ranks[0]}, one start, {last} epochs. Before its peak the gradient itself is shown: there "
        "the run leaves the flat region at the origin. Grey: the three orders, drawn from the curve of sharp."
    )
    return drawing("rates", "Which order the gradient follows.", caption, panels, EPOCH, log_x=True)


def _bounds(results: Results, options: Options) -> Drawing:
    rank, seed = size(options).ranks[0], seeds(options)[0]
    gradient, total = [], []
    for rule in ("theory", "sharp"):
        run = results[f"proved-{rule}-rank-{rank}-seed-{seed}"]
        steps, colour = run["trace"]["step"], rule_colour(rule)
        kinds: list[tuple[str, Any, Any, str]] = [
            (f"{rule}, measured", run["trace"]["min_grad_sq"], run["trace"]["sum_eta"], "solid"),
            (f"{rule}, our bound", run["bounds"]["min_grad_sq"], run["bounds"]["sum_eta"], "dashed"),
        ]
        if "paper" in run["bounds"]:
            unknown = [float("nan")] * len(steps)
            kinds.append((f"{rule}, the paper's bound", run["bounds"]["paper"], unknown, "dotted"))
        gradient += [Curve(label, steps, values, colour=colour, dashes=dashes) for label, values, _, dashes in kinds]
        total += [Curve(label, steps, values, colour=colour, dashes=dashes) for label, _, values, dashes in kinds]
    panels = [Panel("least ‖∇J‖² so far, bounded from above", gradient, log=True)]
    panels.append(Panel("sum of the step sizes Σ η, bounded from below", total, log=True))
    caption = f"Rank {rank}, one start. What was proved before the run, and what happened."
    return drawing("bounds", "Bounds and what happened.", caption, panels, EPOCH, log_x=True)


def _losses(runs: Mapping[str, Result]) -> list[Curve]:
    return [Curve(label, run["trace"]["step"], run["trace"]["loss"]) for label, run in runs.items()]


def _ranks(results: Results, options: Options) -> Drawing:
    panels = []
    for start, words in (("equal", "starts of one ‖V₀‖"), ("default", "PEFT's default start")):
        runs = {f"r = {rank}": results[f"{start}-start-rank-{rank}"] for rank in size(options).equal_ranks}
        panels.append(Panel(f"training loss, nats; {words}", _losses(runs), log=True))
    constant = results[f"equal-start-rank-{size(options).equal_ranks[0]}"]["lr"]
    caption = f"Rule adaptive-loss with a = {constant:g}, one start of each rank."
    return drawing("ranks", "The rank.", caption, panels, EPOCH, log_x=True)


def _origin(results: Results, options: Options) -> Drawing:
    panels = []
    for rule, constant in ESCAPE.items():
        runs = {f"std {std:g}": results[f"origin-{rule}-std-{std:g}"] for std in size(options).stds}
        panels.append(Panel(f"training loss, nats; {rule}, a = {constant:g}", _losses(runs)))
    caption = (
        f"Rank {size(options).ranks[0]}, B = 0, and A normal with the standard deviation given. The origin is "
        "stationary for every loss, and the closer a run starts to it, the longer it stays there."
    )
    return drawing("origin", "The flat region at the origin.", caption, panels, EPOCH, log_x=True)
