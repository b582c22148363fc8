"""The claims about the spectrum, each decided by the ratio of the two largest eigenvalues."""

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.spectrum.plan import ALPHAS, PAPER_ALPHA, TOLERANCE, Size, run_name, size
from lorate_papers.training.measures import mean_and_error, sign

RESTORED = 4.0
"""Spectra within this factor of each other are alike."""
SQUARE = 0.25
"""How far an exponent may lie from 2 to be that of a square."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    how = size(options)
    return [
        *(_suppressed(results, options, alpha) for alpha in ("r", "2r")),
        _restored(results, options),
        *(_weaker(results, options, alpha) for alpha in ("r", "2r")),
        _rank(results, options),
        _square(results, options),
        _bound(results, options, how),
    ]


def rows(results: Results, rank: int, alpha: str, options: Options) -> list[list[Any]]:
    """What each seed measured, in the order of the steps."""
    return [results[run_name(rank, alpha, seed)]["rows"] for seed in options.seeds(size(options).seeds)]


def ratios(results: Results, rank: int, alpha: str, options: Options) -> list[float]:
    """Adapters over weights after each step, geometric mean of the seeds; ends where one of them diverged."""
    by_seed = [[row["adapters"] / row["weights"] for row in one] for one in rows(results, rank, alpha, options)]
    return [geometric_mean(one) for one in zip(*by_seed, strict=False)]


def crossing(results: Results, rank: int, options: Options, place: int) -> float:
    """Alpha over r at which the ratio passes 1, interpolated in the logarithms; nan if it does not on this grid."""
    points = [
        (ALPHAS[alpha](rank) / rank, found[place])
        for alpha in size(options).alphas
        if len(found := ratios(results, rank, alpha, options)) > place
    ]
    for (low, below), (high, above) in pairwise(points):
        if below < 1 <= above:
            share = -math.log(below) / math.log(above / below)
            return float(low * (high / low) ** share)
    return math.nan


def _suppressed(results: Results, options: Options, alpha: str) -> Claim:
    found = {
        rank: [row["adapters"] / row["weights"] for one in rows(results, rank, alpha, options) for row in one]
        for rank in size(options).ranks
    }
    words = ", ".join(f"{_range(values)} at r = {rank}" for rank, values in found.items())
    return Claim.decide(
        f"At alpha = {alpha} the low-rank form suppresses the Hessian's spectrum, at every rank and throughout.",
        f"largest eigenvalue in the adapters over that in the weights, least to most of all seeds and steps: {words}; "
        "suppressed means that all lie below 1",
        all(max(values) < 1 for values in found.values()),
    )


def _restored(results: Results, options: Options) -> Claim:
    found = {rank: ratios(results, rank, PAPER_ALPHA, options) for rank in size(options).ranks}
    words = ", ".join(f"{_range(values)} at r = {rank}" for rank, values in found.items())
    last = len(size(options).steps) - 1
    crossings = ", ".join(
        f"{_in_ranks(crossing(results, rank, options, 0))} at the start and "
        f"{_in_ranks(crossing(results, rank, options, last))} at the end (r = {rank})"
        for rank in found
    )
    return Claim.decide(
        "The paper's alpha = 256√r makes up for the suppression: the two spectra become alike.",
        f"largest eigenvalue in the adapters over that in the weights, geometric mean of the seeds, least to most of "
        f"all steps: {words}; alike means within a factor of {RESTORED:g}; they are alike at alpha = {crossings}",
        all(1 / RESTORED <= value <= RESTORED for values in found.values() for value in values),
    )


def _weaker(results: Results, options: Options, alpha: str) -> Claim:
    parts, words = [], []
    for rank in size(options).ranks:
        ends = [
            [row["adapters"] / row["weights"] for row in (one[0], one[-1])]
            for one in rows(results, rank, alpha, options)
        ]
        mean, error = mean_and_error([math.log(last / first) for first, last in ends])
        parts.append(sign(mean, error))
        words.append(f"×{math.exp(mean):.2f} at r = {rank}")
    return Claim.decide(
        f"At alpha = {alpha} training weakens the suppression, at every rank.",
        f"ratio at the end over ratio at the start, geometric mean of the seeds: {', '.join(words)}; decided beyond 2 "
        "standard errors of the logarithm",
        all_hold(parts),
    )


def _rank(results: Results, options: Options) -> Claim:
    ranks = size(options).ranks
    found = {
        rank: [fmean(map(math.log, ratios(results, rank, alpha, options))) for alpha in ("r", "2r")] for rank in ranks
    }
    words = ", ".join(f"{math.exp(fmean(values)):.2g} at r = {rank}" for rank, values in found.items())
    return Claim.decide(
        "A larger rank suppresses less at the same alpha/r.",
        f"ratio, geometric mean over training, seeds, and alpha = r and 2r: {words}",
        all(
            low < high for small, large in pairwise(ranks) for low, high in zip(found[small], found[large], strict=True)
        ),
    )


def _square(results: Results, options: Options) -> Claim:
    powers = {}
    for rank in size(options).ranks:
        scalings = [ALPHAS[alpha](rank) / rank for alpha in size(options).alphas]
        starts = [ratios(results, rank, alpha, options)[0] for alpha in size(options).alphas]
        powers[rank] = float(np.polyfit(np.log(scalings), np.log(starts), 1)[0])
    return Claim.decide(
        "The spectrum in the adapters grows with the square of alpha (at the start, where the weights are the same).",
        f"power of the ratio in alpha: {', '.join(f'{power:.2f} at r = {rank}' for rank, power in powers.items())}; "
        f"a square means {2 - SQUARE:g} to {2 + SQUARE:g}",
        all(abs(power - 2) <= SQUARE for power in powers.values()),
    )


def _bound(results: Results, options: Options, how: Size) -> Claim:
    shares = [row["adapters"] / row["bound"] for row in _all_rows(results, options, how)]
    open_ones = sum(not row["converged"] for row in _all_rows(results, options, how))
    violated = sum(share > 1 + TOLERANCE for share in shares)
    return Claim.decide(
        "The sharp lemma's curvature bounds it: ‖H_AB‖ ≤ max over the layers of s²‖H_W‖(‖A‖² + ‖B‖²) + s‖G‖, all "
        "spectral norms.",
        f"{violated} of {len(shares)} measurements above the bound; {min(shares):.2g} to {max(shares):.2g} of it; "
        f"{open_ones} not converged to {TOLERANCE:g}",
        None if open_ones and not violated else violated == 0,
    )


def _all_rows(results: Results, options: Options, how: Size) -> Iterator[Any]:
    for rank in how.ranks:
        for alpha in how.alphas:
            for one in rows(results, rank, alpha, options):
                yield from one


def _in_ranks(alpha: float) -> str:
    return "no alpha tried" if math.isnan(alpha) else f"{alpha:.2g} r"


def _range(values: list[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"
