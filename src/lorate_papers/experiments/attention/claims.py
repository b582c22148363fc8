"""The claims about the solvable attention model, each decided by a number.

How far a simulation may lie from the theory: three standard errors, plus what a finite dimension costs. That cost falls
like 1/sqrt(D): `ERROR_ROOM` / sqrt(D) of the test error, and `OVERLAP_ROOM` / D of the overlap, whose distance from one
is quadratic in what goes wrong.
"""

import math
from collections.abc import Sequence

import numpy as np

from lorate_papers.attention import Pretraining, optimal_beta, optimal_decay, solve_pretraining
from lorate_papers.experiments.attention.bridge_claims import bridge_claims
from lorate_papers.experiments.attention.plan import LINEAR, lines, simulation_name, size, theory_name
from lorate_papers.experiments.attention.readings import (
    Point,
    effective_noise,
    effective_noise_beta,
    effective_noise_reused,
    gain_of,
    of_figure,
    simulated,
    theory,
)
from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.training.measures import mean_and_error, sign

ERROR_ROOM, OVERLAP_ROOM = 1.0, 2.0
APART = 3.0
"""Weight decays further apart than by this factor differ."""
DECIDED = "decided beyond 2 standard errors"


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims."""
    return [
        *_agreement(results, options),
        _dimension(results, options),
        _one_number(results, options),
        *_recalibration(results, options),
        *_active(results, error_room(size(options).dimension)),
        *_mismatch(results, options),
        _stable(results, options),
        *bridge_claims(results, options),
    ]


def error_room(dimension: int) -> float:
    """Relative distance from the theory that a finite dimension explains, of a test error or effective noise."""
    return ERROR_ROOM / math.sqrt(dimension)


def overlap_room(dimension: int) -> float:
    """The same for an overlap, absolute."""
    return OVERLAP_ROOM / dimension


def _agreement(results: Results, options: Options) -> list[Claim]:
    D = size(options).dimension
    claims = []
    for kind, chosen in (
        (
            "linear attention",
            [line for line in lines(options) if line.figure in ("decay", "finetune-decay", "mismatch")],
        ),
        ("softmax attention", [line for line in of_figure(options, "softmax") if line.label == "softmax"]),
    ):
        overlaps = [p for line in chosen for p in simulated(results, line, "overlap") if math.isfinite(p.theory)]
        errors = [p for line in chosen for p in simulated(results, line, "E_finetuned") if math.isfinite(p.theory)]
        claims += [
            _close(f"Theory gives the overlap of adapter and teacher, {kind}.", overlaps, overlap_room(D), False),
            _close(f"Theory gives the test error after fine-tuning, {kind}.", errors, error_room(D), True),
        ]
    (line,) = of_figure(options, "noise")
    for name, measure, words in (
        ("Delta_eff", effective_noise, "on fresh sequences"),
        ("Delta_eff_reused", effective_noise_reused, "on reused sequences"),
        ("Delta_eff_beta", effective_noise_beta, "after recalibration"),
    ):
        points = simulated(results, line, name, measure)
        claims.append(_close(f"Theory gives the effective noise {words}.", points, error_room(D), True))
    return claims


def _close(claim: str, points: Sequence[Point], room: float, relative: bool) -> Claim:
    if not points:
        return Claim.decide(claim, "the theory was solved at no simulated point", None)
    gaps = [abs(p.mean - p.theory) / (p.theory if relative else 1) for p in points]
    allowed = [room + 3 * p.error / (p.theory if relative else 1) for p in points]
    within = sum(gap <= most for gap, most in zip(gaps, allowed, strict=True))

    def form(gap: float) -> str:
        return f"{gap:.1%}" if relative else f"{gap:.4f}"

    value = (
        f"{within} of {len(points)} points within {form(room)} plus 3 standard errors of the line; "
        f"median distance {form(float(np.median(gaps)))}, largest {form(max(gaps))}"
    )
    return Claim.decide(claim, value, within == len(points))


def _dimension(results: Results, options: Options) -> Claim:
    claim = "The distance of the simulated test error from the theory shrinks as the dimension grows."
    dimensions = size(options).dimensions
    if not dimensions:
        return Claim.decide(claim, "needs several dimensions, which the short form does not run", None)
    expected = float(results["bridge-theory"]["E_finetuned"])
    ratios = [mean_and_error(results[f"dimension-{D}"]["E_finetuned"]) for D in dimensions]
    gaps = [mean / expected - 1 for mean, _ in ratios]
    shrunk, error = abs(gaps[0]) - abs(gaps[-1]), math.hypot(ratios[0][1], ratios[-1][1]) / expected
    value = ", ".join(
        f"{gap:+.1%} ± {one / expected:.1%} at D = {D}"
        for D, gap, (_, one) in zip(dimensions, gaps, ratios, strict=True)
    )
    value += f"; smaller by {shrunk:.1%} ± {error:.1%} from the first to the last, {DECIDED}"
    return Claim.decide(claim, value, sign(shrunk, error))


def _one_number(results: Results, options: Options) -> Claim:
    """Pre-training enters fine-tuning on fresh sequences through the effective noise alone."""
    (line,) = (line for line in of_figure(options, "decay") if line.fixed["lam"] == 0.1)
    whole, whole_error = mean_and_error(results[simulation_name(line, 1.0)]["overlap"])
    alone, alone_error = mean_and_error(results["gaussian"]["overlap"])
    error = math.hypot(whole_error, alone_error)
    D = size(options).dimension
    allowed = 3 * error + overlap_room(D)
    return Claim.decide(
        "Pre-training enters fine-tuning on fresh sequences through one number, the effective noise.",
        f"overlap {whole:.4f} on the trained map, {alone:.4f} with Gaussian noise of that variance in its place; "
        f"difference {abs(whole - alone):.4f}, allowed {allowed:.4f}",
        abs(whole - alone) <= allowed,
    )


def _recalibration(results: Results, options: Options) -> list[Claim]:
    (line,) = of_figure(options, "noise")
    gains = {}
    for at in line.simulated:
        # the theory's beta: with M / Q of each simulated map the gain would be (Q - M)^2 / Q, which is never negative
        beta = optimal_beta(solve_pretraining(Pretraining(**{**line.fixed, "lam": at})))
        gains[at] = mean_and_error(gain_of(dict(results[simulation_name(line, at)]), beta))
    least = min(gains, key=lambda at: gains[at][0])
    problem = Pretraining(lam=1, **LINEAR)  # type: ignore[arg-type]
    plain, recalibrated = optimal_decay(problem), optimal_decay(problem, recalibrated=True)
    return [
        Claim.decide(
            "Recalibrating the frozen map (β = M/Q) lowers the effective noise at every weight decay.",
            f"with the theory's β lowered by at least {gains[least][0]:.4f} ± {gains[least][1]:.4f} in the mean of the "
            f"simulations (λ = {least:g}), at most {max(mean for mean, _ in gains.values()):.4f}; {DECIDED} at every λ",
            all_hold(sign(mean, error) for mean, error in gains.values()),
        ),
        Claim.decide(
            "With recalibration a smaller weight decay of pre-training is best (α = 0.1, T = 3).",
            f"theory: λ = {recalibrated.lam:.4f} against {plain.lam:.4f}, effective noise "
            f"{recalibrated.effective_noise:.4f} against {plain.effective_noise:.4f}",
            recalibrated.lam < plain.lam,
        ),
    ]


def _active(results: Results, room: float) -> list[Claim]:
    rows = results["active"]["rows"]
    chosen = {row["fraction"]: row for row in rows}
    strict, everything, recalibrated = chosen[min(key for key in chosen if key)], chosen[1.0], chosen[None]
    gain, gain_error = _difference(everything["noise"], strict["noise"])
    theory_gain = everything["theory"]["noise"] - strict["theory"]["noise"]
    gains = [
        Point(
            key, *_difference(everything["noise"], row["noise"]), everything["theory"]["noise"] - row["theory"]["noise"]
        )
        for key, row in chosen.items()
        if key not in (None, 1.0)
    ]
    above, above_error = _difference(strict["error"], recalibrated["error"])
    rest, rest_error = _difference(strict["noise"], recalibrated["noise"])
    theory_rest = strict["theory"]["noise"] - recalibrated["theory"]["noise"]
    theory_whole = everything["theory"]["noise"] - recalibrated["theory"]["noise"]
    return [
        Claim.decide(
            "Choosing the sequences on which the frozen map predicts least lowers the effective noise.",
            f"lowered by {gain:.3f} ± {gain_error:.3f} at ρ = {strict['fraction']:g}; theory {theory_gain:.3f}; "
            f"{DECIDED}",
            sign(gain, gain_error),
        ),
        _close("Theory gives the gain in effective noise at every share that is chosen.", gains, room, True),
        Claim.decide(
            "Strict selection comes close to the effective noise of the best recalibration, without touching the map.",
            f"{rest:+.3f} ± {rest_error:.3f} above it at ρ = {strict['fraction']:g}, theory {theory_rest:+.3f}; "
            f"without selection {theory_whole:+.3f}; close means below half of that",
            rest < 0.5 * theory_whole,
        ),
        Claim.decide(
            "Active selection leaves the map's share of the test error, which recalibration lowers.",
            f"test error {above:+.3f} ± {above_error:.3f} above recalibration; theory "
            f"{strict['theory']['error'] - recalibrated['theory']['error']:+.3f}; {DECIDED}",
            sign(above, above_error),
        ),
    ]


def _difference(left: Sequence[float], right: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the paired difference over the seeds."""
    return mean_and_error(np.asarray(left) - np.asarray(right))


def _mismatch(results: Results, options: Options) -> list[Claim]:
    claims = []
    words = {
        True: "On reused sequences error and overlap disagree: the overlap is best at a smaller weight decay.",
        False: "On fresh sequences error and overlap agree on the weight decay of pre-training.",
    }
    for line in of_figure(options, "mismatch"):
        best, simulated_best = [], []
        for name, way in (("E_finetuned", 1), ("overlap", -1)):
            places, values = theory(results, line, name)
            best.append(places[int(np.argmin(way * np.asarray(values)))])
            points = simulated(results, line, name)
            simulated_best.append(min(points, key=lambda p, way=way: way * p.mean).at)  # type: ignore[misc]
        value = (
            f"best λ for error and overlap: {best[0]:.3g} and {best[1]:.3g} in theory, "
            f"{simulated_best[0]:.3g} and {simulated_best[1]:.3g} of the simulated ones"
        )
        reused = bool(line.fixed["reused"])
        if reused:
            value += f"; decided by a factor of {APART:g} in theory and the same order in simulation"
            holds = best[0] > APART * best[1] and simulated_best[0] > simulated_best[1]
        else:
            value += (
                f"; agreeing means within a factor of {APART:g} in theory and at most one place apart in simulation"
            )
            one, other = (line.simulated.index(at) for at in simulated_best)
            holds = 1 / APART < best[0] / best[1] < APART and abs(one - other) <= 1
        claims.append(Claim.decide(words[reused], value, holds))
    return claims


def _stable(results: Results, options: Options) -> Claim:
    solved, failed, unstable, largest = 0, 0, 0, 0.0
    for line in lines(options):
        record = results[theory_name(line)]
        solved += len(record["rows"])
        failed += len(record["failed"])
        unstable += len(record["unstable"])
        largest = max([largest, *(row.get("AT", 0.0) for row in record["rows"])])
    value = f"{solved} points stable, {unstable} unstable, {failed} without a solution; largest AT drawn {largest:.3f}"
    return Claim.decide(
        "The replica-symmetric solution is stable wherever a line is drawn.", value, not unstable + failed
    )
