"""The attention experiment: its plan, and claims that can come out either way."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorate.runs.strict_json import encode
from lorate_papers.attention import Pretraining, solve_pretraining
from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.attention import claims, plan
from lorate_papers.experiments.attention.bridge_claims import bridge_claims
from lorate_papers.experiments.attention.readings import Point, success
from lorate_papers.experiments.runner import reproduce

TINY = plan.QUICK._replace(dimension=16, seeds=3, active_seeds=3, line=3, points=2**8, softmax_points=2**7, descents=2,
    steps=20, free_steps=40, random_dimension=10, random_starts=2, random_steps=20,
)  # fmt: skip


@pytest.mark.parametrize("quick", [True, False])
def test_the_plan_is_plain_and_without_repetition(quick: bool) -> None:
    runs = load_experiment("attention").runs(Options(quick=quick, seed=2))
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and "/" not in name and " " not in name for name in names)
    assert all(json.loads(encode(run.arguments)) for run in runs)
    seeds = [run.arguments["seeds"] for run in runs if "seeds" in run.arguments]
    assert all(min(given) == 2000 for given in seeds)


@pytest.mark.slow
def test_a_tiny_one_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", TINY)
    outcome = reproduce("attention", tmp_path / "run", Options(quick=True), jobs=1)
    assert {claim.verdict for claim in outcome.claims} <= {"holds", "does not hold", "not testable here"}
    figures = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    assert len(figures) == 16 and "mismatch.svg" in figures and "rules.png" in figures
    assert all(file.stat().st_size > 3000 for file in (tmp_path / "run" / "figures").iterdir())


def test_a_claim_of_agreement_can_fail() -> None:
    near = Point(at=1.0, mean=1.02, error=0.01, theory=1.0)
    far = Point(at=2.0, mean=1.5, error=0.01, theory=1.0)
    assert claims._close("", [near], 0.05, True).verdict == "holds"
    failed = claims._close("", [near, far], 0.05, True)
    assert failed.verdict == "does not hold" and failed.value.startswith("1 of 2 points")


def test_agreement_without_a_point_is_not_testable() -> None:
    assert claims._close("", [], 0.05, True).verdict == "not testable here"


@pytest.mark.parametrize(
    ("far", "spread", "verdict"),
    [(0.05, 0.001, "holds"), (0.05, 0.1, "not testable here"), (-0.05, 0.001, "does not hold")],
)
def test_a_distance_has_to_shrink_by_more_than_its_error(far: float, spread: float, verdict: str) -> None:
    errors = {30: 1.1 + far, 60: 1.1, 120: 1.1}
    results: dict[str, Any] = {"bridge-theory": {"E_finetuned": 1.0}}
    for D, error in errors.items():
        results[f"dimension-{D}"] = {"E_finetuned": [error - spread, error, error + spread]}
    assert claims._dimension(results, Options()).verdict == verdict


@pytest.mark.parametrize(("alike", "verdict"), [(False, "holds"), (True, "does not hold")])
def test_recalibration_by_the_theory_can_raise_the_noise_of_a_map(alike: bool, verdict: str) -> None:
    (line,) = (line for line in plan.lines(Options()) if line.figure == "noise")
    results: dict[str, Any] = {}
    for at in line.simulated:
        order = solve_pretraining(Pretraining(**{**line.fixed, "lam": at}))
        M = [order.Q if alike else order.M] * 3  # a map with M = Q is best as it is
        results[plan.simulation_name(line, at)] = {"Q": [order.Q + 1e-6 * seed for seed in range(3)], "M": M}
    assert claims._recalibration(results, Options())[0].verdict == verdict


def test_success_counts_arrivals() -> None:
    results: dict[str, Any] = {
        "random-alpha-1-seed-0": {"random gap": [0.0, 1e-4, 0.2]},
        "random-alpha-1-seed-1": {"random gap": [0.5]},
        "random-alpha-1.5-seed-0": {"random gap": [0.0]},
    }
    assert success(results, 1.0, "random") == (0.5, 0.25)


def test_claims_of_the_bridge_can_fail() -> None:
    def results(gap: float, error: float, random_gap: float, free: float) -> dict[str, Any]:
        rows = [
            {"start": start, "rule": rule, "losses": [2.0, 1 + gap], "error": error + 0.001 * seed, "overlap": 0.98}
            for start in ("spectral", "informed")
            for rule in plan.RULES
            for seed in (0,)
        ]
        one = {"best": {"loss": 1.0}, "rows": rows}
        other = {"best": {"loss": 1.0}, "rows": [{**row, "error": row["error"] + 0.001} for row in rows]}
        gaps = {"random gap": [random_gap], "spectral gap": [0.0], "informed gap": [0.0]}
        pair = {"tied": {"loss": 1.0, "error": 1.0}, "free": {"loss": free, "error": 2 - free}}
        return {
            "rules-seed-0": one,
            "rules-seed-1": other,
            "bridge-theory": {"E_finetuned": 0.66, "overlap": 0.988},
            "free-seed-0": {**pair, "eigenvalues": [free - 1, 0.9]},
            **{f"random-alpha-{alpha:g}-seed-0": gaps for alpha in plan.QUICK.random_alphas},
        }

    quick = Options(quick=True)
    good = [claim.verdict for claim in bridge_claims(results(1e-3, 0.66, 0.0, 0.8), quick)]
    bad = [claim.verdict for claim in bridge_claims(results(0.5, 1.66, 0.3, 1.0), quick)]
    assert good == ["holds"] * 5 + ["does not hold", "holds"]  # from a random start all arrive at little data too
    assert bad == ["does not hold"] * 5 + ["holds", "does not hold"]
