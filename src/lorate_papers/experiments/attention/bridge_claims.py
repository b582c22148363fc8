"""The claims about the adapter that gradient descent finds."""

import math
from typing import Any

import numpy as np

from lorate_papers.experiments.attention.plan import RULES, size
from lorate_papers.experiments.attention.readings import REACHED, success
from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.training.measures import mean_and_error

CLOSE = 0.01
"""Training loss above its minimum, relative, at which a descent from a good start has arrived."""
OFTEN = 0.1
"""Share of the random starts that end elsewhere from which on that happens often."""
OVERFIT, NEGATIVE = 0.01, 0.05
"""Relative change of both losses, and size of the negative eigenvalue over D, that count."""


def bridge_claims(results: Results, options: Options) -> list[Claim]:
    """The claims, in the order of the report."""
    return [*_arrival(results, options), *_random(results, options), _free(results)]


def _arrival(results: Results, options: Options) -> list[Claim]:
    how = size(options)
    runs: list[Any] = [run for name, run in results.items() if name.startswith("rules-seed-")]
    predicted = results["bridge-theory"]
    claims = []
    for start in ("spectral", "informed"):
        rows = [(run["best"], row) for run in runs for row in run["rows"] if row["start"] == start]
        gaps = {
            rule: max(row["losses"][-1] / best["loss"] - 1 for best, row in rows if row["rule"] == rule)
            for rule in RULES
        }
        worst = max(gaps, key=lambda rule: gaps[rule])
        claims.append(
            Claim.decide(
                f"LoRA gradient descent from the {start} start reaches the global minimum of the training loss "
                "under every rule.",
                f"after {how.steps} steps at most {gaps[worst]:.2g} above it, relative ({worst}); "
                f"best {min(gaps.values()):.1e}; arrived means {CLOSE:g}",
                gaps[worst] <= CLOSE,
            )
        )
        errors = [row["error"] for _, row in rows if row["rule"] == "majorizer"]
        overlaps = [row["overlap"] for _, row in rows if row["rule"] == "majorizer"]
        mean, error = mean_and_error(errors)
        overlap, overlap_error = mean_and_error(overlaps)
        expected = float(predicted["E_finetuned"])
        room = 1 / math.sqrt(how.dimension) + 3 * error / expected
        claims.append(
            Claim.decide(
                f"LoRA gradient descent from the {start} start reaches the predicted test error and overlap.",
                f"error {mean:.4f} ± {error:.4f}, theory {expected:.4f} (allowed {room:.0%}); overlap {overlap:.4f} ± "
                f"{overlap_error:.4f}, theory {predicted['overlap']:.4f} (allowed {2 / how.dimension:.2f} more than "
                "3 standard errors)",
                abs(mean / expected - 1) <= room
                and abs(overlap - float(predicted["overlap"])) <= 2 / how.dimension + 3 * overlap_error,
            )
        )
    return claims


def _random(results: Results, options: Options) -> list[Claim]:
    how = size(options)
    shares = {alpha: success(results, alpha, "random")[0] for alpha in how.random_alphas}
    known = {
        start: min(success(results, alpha, start)[0] for alpha in how.random_alphas)
        for start in ("spectral", "informed")
    }
    few, many = how.random_alphas[0], how.random_alphas[-1]
    listed = ", ".join(f"{share:.0%} at α′ = {alpha:g}" for alpha, share in shares.items())
    return [
        Claim.decide(
            "With enough fine-tuning data gradient descent reaches the global minimum from a random start as well.",
            f"{listed}; {how.random_seeds * how.random_starts} starts each; reached means all of them within "
            f"{REACHED:.1%} of the lowest loss, at α′ = {many:g}",
            shares[many] == 1,
        ),
        Claim.decide(
            "With little data a random start often ends in a worse minimum.",
            f"{shares[few]:.0%} arrive at α′ = {few:g}; from the spectral start at least {known['spectral']:.0%} and "
            f"from the informed start {known['informed']:.0%} at every α′; often means more than {OFTEN:.0%} of them",
            shares[few] < 1 - OFTEN,
        ),
    ]


def _free(results: Results) -> Claim:
    runs: list[Any] = [run for name, run in results.items() if name.startswith("free-seed-")]
    loss = np.mean([run["free"]["loss"] / run["tied"]["loss"] - 1 for run in runs])
    error = np.mean([run["free"]["error"] / run["tied"]["error"] - 1 for run in runs])
    negative = np.mean([run["eigenvalues"][0] for run in runs])
    return Claim.decide(
        "A LoRA pair keeps the model's symmetric solution only if B and A are held equal: left free it learns a "
        "negative direction as well, and overfits.",
        f"training loss {loss:+.1%}, test error {error:+.1%}, the eigenvalues of (BA + AᵀBᵀ)/2 reach {negative:.2f} D; "
        f"decided at {-OVERFIT:+.0%}, {OVERFIT:+.0%} and {-NEGATIVE:g} D",
        bool(loss < -OVERFIT and error > OVERFIT and negative < -NEGATIVE),
    )
