"""The two smooth functions, the descent on them, and claims that can fail."""

import copy
from typing import Any

import numpy as np
import pytest

from lorate_papers.experiments import load_experiment
from lorate_papers.experiments.burer_monteiro import plan
from lorate_papers.experiments.burer_monteiro.plan import descend
from lorate_papers.experiments.burer_monteiro.problems import PROBLEMS
from papers.experiments.tiny import QUICK, only, results_of, verdicts

GIVEN: dict[str, dict[str, Any]] = {
    "sensing": {"size": 8, "rank": 2, "measurements": 80, "seed": 1},
    "max-cut": {"size": 8, "degree": 3.0, "penalty": 7.0, "seed": 1},
}
TINY = plan.QUICK._replace(steps=40, starts=2, cut_steps=60)


@pytest.fixture(scope="module")
def computed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", TINY)
        yield results_of("burer-monteiro")


@pytest.fixture
def results(computed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(plan, "QUICK", TINY)
    return copy.deepcopy(computed)


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_gradient_and_smoothness(name: str) -> None:
    problem, draw = PROBLEMS[name](**GIVEN[name]), np.random.default_rng(0)
    largest = 0.0
    for _ in range(50):
        M, D = (X + X.T for X in draw.normal(size=(2, 8, 8)))
        slope = (problem.value(M + 1e-5 * D) - problem.value(M - 1e-5 * D)) / 2e-5
        assert np.sum(problem.gradient(M) * D) == pytest.approx(slope, rel=1e-5)
        largest = max(largest, float(np.linalg.norm(problem.gradient(M + D) - problem.gradient(M)) / np.linalg.norm(D)))
    assert largest <= problem.smoothness * (1 + 1e-9)
    D = np.eye(8) if name == "max-cut" else problem.gradient(np.ones((8, 8)))
    for _ in range(200):  # power iteration: L is reached, not only an upper bound
        D = problem.gradient(D) - problem.gradient(np.zeros((8, 8)))
        reached = float(np.linalg.norm(D))
        D /= reached
    assert reached == pytest.approx(problem.smoothness, rel=1e-6)


def test_the_solution_of_sensing_is_its_minimum() -> None:
    problem = PROBLEMS["sensing"](**GIVEN["sensing"])
    assert problem.solution is not None and problem.value(problem.solution) == pytest.approx(0, abs=1e-25)
    assert np.linalg.matrix_rank(problem.solution) == 2


def test_a_descent_finds_the_matrix_and_keeps_its_promises() -> None:
    run = descend("sensing", GIVEN["sensing"], 2, 1.0, "majorizer", 300, 0)
    assert run["error"] < 1e-6 and run["violated"] == 0 and run["bound_ratio"] is None
    run = descend("sensing", GIVEN["sensing"], 2, 1.0, "sharp", 300, 0)
    assert run["violated"] == 0 and 0 < run["bound_ratio"] <= 1


def test_no_start_is_the_solution_in_disguise() -> None:
    """Problem and start are drawn by the same seed: the first numbers of a shared stream would be the solution's."""
    for seed in range(3):
        given = {"size": 30, "rank": 2, "measurements": 100, "seed": seed}
        run = descend("sensing", given, 2, 1.0, "sharp", 1, seed)
        assert run["first_loss"] > 0.3, "a start near the solution has only its size to mend"


def test_a_broken_promise_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorate_papers.experiments.burer_monteiro import plan

    monkeypatch.setitem(plan.FRACTIONS, "sharp", 1.0)  # more than any step along the gradient of a convex f can keep
    assert descend("sensing", GIVEN["sensing"], 2, 1.0, "sharp", 20, 0)["violated"] > 10


def test_every_figure_and_claim_comes_out_either_way(results: dict[str, Any]) -> None:
    found = verdicts("burer-monteiro", results)
    assert len(found) == 7 and only(found, "The proofs carry over") == "holds"
    drawings = load_experiment("burer-monteiro").drawings(results, QUICK)
    assert len(drawings) == 4 and all(drawing.description and drawing.figure.axes for drawing in drawings)
    results["max-cut-theory-seed-1"]["violated"] = 1
    for rule in plan.RULES:
        for seed in (0, 1):
            results[f"sensing-{rule}-seed-{seed}"]["error"] = 1e-9
    found = verdicts("burer-monteiro", results)
    assert only(found, "The proofs carry over") == "does not hold" and only(found, "finds the matrix") == "holds"
    results["sensing-sharp-seed-0"]["error"] = 0.5
    assert only(verdicts("burer-monteiro", results), "finds the matrix") == "does not hold"
    for number, norm in enumerate(reversed(TINY.norms)):
        for problem in plan.WORDS:
            for seed in (0, 1):
                falls = {"step": [1, 9 * number + 2], "loss": [1.0, 0.1]}
                results[f"start-{norm:g}-{problem}-seed-{seed}"] |= {"trace": falls, "first_loss": 1.0}
    assert only(verdicts("burer-monteiro", results), "flat around V = 0") == "holds"
    for seed in (0, 1):
        results[f"start-{TINY.norms[0]:g}-max-cut-seed-{seed}"]["trace"]["step"][1] = 2
    assert only(verdicts("burer-monteiro", results), "flat around V = 0") == "does not hold"
