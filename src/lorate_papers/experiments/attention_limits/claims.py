"""The claims on what fine-tuning can reach."""

import math
from typing import Any, NamedTuple

import numpy as np

from lorate_papers.experiments.attention_limits.plan import BEST, DECAYS, SHARES, size
from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.training.measures import Numbers, leads, mean_and_error, sign

TRAINED = (*(f"{lam:g}" for lam in DECAYS), BEST)
ACCURACY = 1e-3
"""Of the theory's averages over quasi-random points."""
CLOSE = 0.1
"""Share of the way from the frozen map down to the bound that training may leave undone to come close."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        *_beats_frozen(results, options),
        *_bound(results, options),
        _message_passing(results, options),
        _close(results, options),
        _map_matters(results, options),
        *_active(results, options),
    ]


def _beats_frozen(results: Results, options: Options) -> list[Claim]:
    how = size(options)
    claim = "Fine-tuning beats the frozen map (λ′ = ∞) at every amount of data and every weight decay, in "
    rows = {alpha: results[f"theory-at-{alpha:g}"] for alpha in how.alphas}
    gains = {(alpha, lam): row["frozen"] - row[lam]["error"] for alpha, row in rows.items() for lam in TRAINED}
    least = min(gains, key=lambda at: gains[at])
    worse = sum(gain <= 0 for gain in gains.values())
    measured = {
        (alpha, lam): mean_and_error(_paired(results[f"simulation-at-{alpha:g}"], lam))
        for alpha in how.simulated
        for lam in TRAINED
    }
    smallest = min(measured, key=lambda at: measured[at][0])
    return [
        Claim.decide(
            f"{claim}theory.",
            f"test error lower by at least {gains[least]:.3f} (α′ = {least[0]:g}, λ′ = {least[1]}), of "
            f"{rows[least[0]]['frozen']:.3f}; {worse} of {len(gains)} not lower",
            worse == 0,
        ),
        Claim.decide(
            f"{claim}simulation.",
            f"lower by at least {_with_error(measured[smallest])} (α′ = {smallest[0]:g}, λ′ = {smallest[1]}), seed by "
            "seed; decided beyond 2 standard errors at every point",
            all_hold(sign(*one) for one in measured.values()),
        ),
    ]


def _paired(run: Any, name: str) -> Numbers:
    return leads(run[name]["error"], run["frozen"])


def _bound(results: Results, options: Options) -> list[Claim]:
    """No training beats the posterior mean: the overlap and the error, in theory."""
    overlaps, errors = [], []
    for alpha in size(options).alphas:
        row = results[f"theory-at-{alpha:g}"]
        known = [row[lam]["overlap"] for lam in TRAINED if row[lam]["overlap"] is not None]  # else w = 0
        overlaps += [row["same map"]["overlap"] - overlap for overlap in known]
        errors += [row[lam]["error"] - row["same map"]["error"] for lam in TRAINED]
    return [
        Claim.decide(
            f"{words} at every amount of data and every weight decay.",
            f"{way} it by {min(gaps):.2g} to {max(gaps):.2g}; the theory is exact to {ACCURACY:g}",
            min(gaps) >= -ACCURACY,
        )
        for words, way, gaps in (
            ("The overlap of Bayes-optimal fine-tuning is above that of training", "above", overlaps),
            ("The test error of Bayes-optimal fine-tuning is below that of training", "below", errors),
        )
    ]


def _message_passing(results: Results, options: Options) -> Claim:
    """Judged by what is missing from an overlap of 1, which is small where data are many."""
    room, words, parts = _room(size(options).dimension), [], []
    for alpha in size(options).simulated:
        expected = 1 - results[f"theory-at-{alpha:g}"]["same map"]["overlap"]
        mean, error = mean_and_error(results[f"simulation-at-{alpha:g}"]["same map"]["overlap"])
        parts.append(abs(1 - mean - expected) <= room * expected + 2 * error)
        words.append(f"{1 - mean:.4f} ± {error:.4f} (theory {expected:.4f}) at α′ = {alpha:g}")
    return Claim.decide(
        "Message passing from the trained adapter reaches the overlap of Bayes-optimal fine-tuning.",
        f"missing from an overlap of 1: {', '.join(words)}; allowed {room:.0%} of it and 2 standard errors",
        all(parts),
    )


def _room(dimension: int) -> float:
    """Distance from the theory, relative, that a dimension explains."""
    return 1 / math.sqrt(dimension)


def _close(results: Results, options: Options) -> Claim:
    shares, words = [], []
    for alpha in size(options).alphas:
        row = results[f"theory-at-{alpha:g}"]
        shares.append((row[BEST]["error"] - row["same map"]["error"]) / (row["frozen"] - row["same map"]["error"]))
        words.append(f"{shares[-1]:.1%} at α′ = {alpha:g} (λ′ = {row[BEST]['decay']:.2f})")
    return Claim.decide(
        "Training at its best weight decay comes close to Bayes-optimal fine-tuning, at every amount of data.",
        f"of the way from the frozen map's test error to the bound is left {', '.join(words)}; close means at most "
        f"{CLOSE:.0%}",
        max(shares) <= CLOSE,
    )


def _map_matters(results: Results, options: Options) -> Claim:
    rows = {alpha: results[f"theory-at-{alpha:g}"] for alpha in size(options).alphas}
    parts = [row["best map"]["overlap"] - row["same map"]["overlap"] for row in rows.values()]
    last, first = list(rows)[-1], next(iter(rows))
    from_map = [row["same map"]["error"] - row["best map"]["error"] for row in rows.values()]
    from_tuning = [row[BEST]["error"] - row["same map"]["error"] for row in rows.values()]
    return Claim.decide(
        "With enough data more is to be gained from better pre-training than from better fine-tuning.",
        f"test error lower by {from_map[-1]:.4f} with the Bayes-optimal map, by {from_tuning[-1]:.4f} with "
        f"Bayes-optimal fine-tuning on the trained map (α′ = {last:g}; {from_map[0]:.4f} and "
        f"{from_tuning[0]:.4f} at α′ = {first:g}); overlap higher by {min(parts):.4f} to {max(parts):.4f} "
        "with that map",
        from_map[-1] > from_tuning[-1],
    )


def active_differences(results: Results, name: str, share: float) -> Numbers:
    """Chosen minus as they come, seed by seed."""
    runs: list[Any] = [run[f"{share:g}"] for key, run in results.items() if key.startswith("active-from-")]
    return np.concatenate([np.asarray(run["chosen"][name]) - np.asarray(run["as they come"][name]) for run in runs])


def _active(results: Results, options: Options) -> list[Claim]:
    gains = {name: _gains(results, name) for name in ("overlap", "error")}
    words = {name: ", ".join(gain.in_words() for gain in found) for name, found in gains.items()}
    paired = f"{size(options).active_seeds} seeds in pairs, decided beyond 2 standard errors"
    room = _room(size(options).active_dimension)
    allowed = [2 * gain.error + room * abs(gain.expected) for gain in gains["error"]]
    near = [
        None if most >= abs(gain.expected) else abs(gain.mean - gain.expected) <= most  # else no gain would do as well
        for gain, most in zip(gains["error"], allowed, strict=True)
    ]
    return [
        Claim.decide(
            "Active selection improves the overlap at every share.",
            f"{words['overlap']}; {paired}",
            all_hold(sign(gain.mean, gain.error) for gain in gains["overlap"]),
        ),
        Claim.decide(
            "Active selection lowers the adapter's part of the test error at every share.",
            f"{words['error']}; {paired}",
            all_hold(sign(-gain.mean, gain.error) for gain in gains["error"]),
        ),
        Claim.decide(
            "Theory gives what active selection gains in error.",
            f"{words['error']}; allowed {room:.0%} of it and 2 standard errors",
            all_hold(near),
        ),
    ]


class Gain(NamedTuple):
    """What choosing a share of the sequences changes: measured, and in theory."""

    share: float
    mean: float
    error: float  # standard error of the mean
    expected: float

    def in_words(self) -> str:
        """For a row."""
        return f"{self.mean:+.4f} ± {self.error:.4f} at ρ = {self.share:g} (theory {self.expected:+.4f})"


def _gains(results: Results, name: str) -> list[Gain]:
    found = []
    for share in SHARES:
        rows = results["active-theory"][f"{share:g}"]
        measured = mean_and_error(active_differences(results, name, share))
        found.append(Gain(share, *measured, rows["chosen"][name] - rows["as they come"][name]))
    return found


def _with_error(one: tuple[float, float]) -> str:
    mean, error = one
    return f"{mean:.3f} ± {error:.3f}" if math.isfinite(error) else f"{mean:.3f}"
