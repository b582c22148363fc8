"""Rules on mini-batches: the runs are what the theorems are about, and claims can fail."""

import copy
from typing import Any

import pytest
import torch

from lorate.adapters import find_pairs
from lorate_papers.experiments import Claim, Options, load_experiment
from lorate_papers.experiments.minibatch import plan
from lorate_papers.experiments.minibatch.plan import train
from lorate_papers.workloads import AdapterSpec, load_workload
from papers.experiments.tiny import QUICK, only, results_of, verdicts

TINY = plan.QUICK._replace(steps=12, points=2)


@pytest.fixture(scope="module")
def computed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", TINY)
        yield results_of("minibatch")


@pytest.fixture
def results(computed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What came out, with every loss of tuned and carried runs set to 1."""
    monkeypatch.setattr(plan, "QUICK", TINY)
    made = copy.deepcopy(computed)
    for found in made.values():
        groups = [found["runs"], *(one["runs"] for one in found.get("carried", [])), found.get("grid", [])]
        for run in (run for group in groups for run in group):
            run.update(final_loss=1.0, diverged=False)
        if "at_edge" in found:
            found["at_edge"] = False
    return made


def test_every_figure_and_claim_comes_out(computed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", TINY)
    experiment = load_experiment("minibatch")
    assert [drawing.name for drawing in experiment.drawings(computed, QUICK)] == ["batches", "constants", "carried"]
    assert len(verdicts("minibatch", computed)) == 8


def test_the_plan_tunes_on_one_start_and_runs_on_the_others() -> None:
    names = {run.name for run in plan.runs(Options())}
    assert len(names) == 2 * 3 * 6 + 3 * 3
    assert {f"{task}-auto-batch-{batch}" for task in plan.TASKS for batch in (4, 8, 32)} <= names
    found = plan.tuned("matrix", "constant", (0.001, 0.03), 8, 12, [5, 6, 7], (1.0,), True)
    assert [run["seed"] for run in found["grid"]] == [5, 5] and [run["seed"] for run in found["runs"]] == [6, 7]
    assert found["best"] == 0.03 and found["at_edge"]
    assert {run["lr"] for run in found["carried"][0]["runs"]} == {0.03}
    assert found["carried"][0]["runs"][0]["final_loss"] != found["runs"][0]["final_loss"], "the scaling is another one"


def test_sgd_is_sgd_with_a_step_that_falls_to_zero() -> None:
    task, steps, lr = load_workload("matrix", quick=True), 10, 0.02
    model = task.model(AdapterSpec(rank=plan.RANK, alpha=plan.RANK), 3)
    factors = [factor for pair in find_pairs(model) for factor in (pair.A, pair.B)]
    optimizer, draw = torch.optim.SGD(factors, lr=lr), torch.Generator().manual_seed(3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        places = torch.randint(200, (8,), generator=draw)
        optimizer.zero_grad()
        task.loss(model, {name: values[places] for name, values in task.train.items()}).backward()  # type: ignore
        optimizer.step()
    run = train("matrix", "constant", lr, 8, steps, 3, 1.0, True)
    assert run["final_loss"] == pytest.approx(float(task.loss(model, task.train).detach()), rel=1e-5)  # type: ignore


def test_the_relative_gradient_is_over_the_normalisers() -> None:
    task = load_workload("logistic", quick=True)
    model = task.model(AdapterSpec(rank=plan.RANK, alpha=plan.RANK), 0)
    ((A, B),) = [(pair.A, pair.B) for pair in find_pairs(model)]
    task.loss(model, task.train).backward()  # type: ignore
    assert A.grad is not None and B.grad is not None and not A.grad.any()
    size = float(torch.linalg.svdvals(A.detach())[0]) ** 2
    square = float(B.grad.square().sum())
    for rule in ("alternate", "relative"):  # half of the sum over both factors; over the size at the start twice
        run = train("logistic", rule, 1e-9, 8, 1, 0, 1.0, True, measured=True)
        assert run["relative_sq"] == pytest.approx(square / size / 2, rel=1e-5)


def test_a_run_that_is_lost_says_so() -> None:
    run = train("matrix", "constant", 1e9, 8, 20, 0, 1.0, True)
    assert run["diverged"] and run["final_loss"] is None


def test_claims_about_proved_steps_come_out_either_way(results: dict[str, Any]) -> None:
    claims = ("No run diverges", "alternate on least squares diverges", "AdaGrad-norm ends below", "bound of Theorem 1")
    found = verdicts("minibatch", results)
    assert [only(found, words) for words in claims] == ["holds"] * 4
    lost = {"final_loss": None, "diverged": True}
    grid = results["matrix-alternate-batch-8"]["grid"]
    assert grid[0]["lr"] <= 1 < grid[-1]["lr"]
    grid[-1].update(lost)
    assert only(verdicts("minibatch", results), "alternate on least squares diverges") == "holds", (
        "beyond 1/L nothing is said"
    )
    grid[0].update(lost)
    assert only(verdicts("minibatch", results), "No run diverges") == "holds", "the noise of least squares grows"
    results["growing-alternate-batch-8"]["runs"][0].update(lost)
    results["logistic-relative-adagrad-batch-8"]["grid"][-1].update(lost)
    results["proved-relative-batch-8"]["bounds"] = [1e-9] * plan.QUICK.seeds
    found = verdicts("minibatch", results)
    assert [only(found, words) for words in claims] == ["does not hold"] * 4


def test_a_measurement_that_is_missing_is_not_below_the_bound(results: dict[str, Any]) -> None:
    del results["proved-alternate-batch-8"]["runs"][0]["relative_sq"]
    assert only(verdicts("minibatch", results), "bound of Theorem 1") == "does not hold"


@pytest.mark.parametrize("losses", [(1.2, 1.21), (None, 1.0)])
def test_one_rule_above_sgd_decides(results: dict[str, Any], losses: tuple[float | None, ...]) -> None:
    assert only(verdicts("minibatch", results), "end level") == "holds"
    for run, loss in zip(results["matrix-alternate-batch-8"]["runs"], losses, strict=True):
        run.update(final_loss=loss, diverged=loss is None)
    assert only(verdicts("minibatch", results), "end level") == "does not hold"


@pytest.mark.parametrize(
    ("losses", "mark", "verdict"),
    [
        ((1.5, 0.9), " (perhaps higher)", "not testable here"),  # within two standard errors
        ((1.2, 1.21), " (higher)", "does not hold"),
        ((1.005, 1.0051), "", "holds"),  # clearly, but by too little to matter
        ((0.9, 0.5), "", "holds"),
    ],
)
def test_what_counts_as_higher(results: dict[str, Any], losses: tuple[float, float], mark: str, verdict: str) -> None:
    for run, loss in zip(results["matrix-alternate-batch-8"]["runs"], losses, strict=True):
        run["final_loss"] = loss
    claim = one_claim(results, "end level with tuned SGD")
    assert claim.verdict == verdict and claim.value.count("higher)") == (mark != "")
    assert f"alternate {sum(losses) / 2:.3g}{mark}" in claim.value


def one_claim(results: dict[str, Any], words: str) -> Claim:
    (claim,) = (claim for claim in load_experiment("minibatch").claims(results, QUICK) if words in claim.claim)
    return claim


@pytest.mark.parametrize(("rule", "loss"), [("constant", 1.0), ("alternate", 1.2)])
def test_a_loser_at_the_edge_of_its_grid_leaves_it_open(results: dict[str, Any], rule: str, loss: float) -> None:
    for run in results["matrix-alternate-batch-8"]["runs"]:
        run["final_loss"] = loss
    results[f"matrix-{rule}-batch-8"]["at_edge"] = True
    claim = one_claim(results, "end level with tuned SGD")
    assert claim.verdict == "not testable here" and claim.value.count("(at the edge of its grid)") == 1


def test_auto_is_held_against_the_best(results: dict[str, Any]) -> None:
    assert only(verdicts("minibatch", results), "auto") == "holds"
    results["logistic-sharp-batch-8"]["at_edge"] = True
    assert one_claim(results, "auto").verdict == "not testable here"
    results["logistic-sharp-batch-8"]["runs"][0]["final_loss"] = 0.9
    claim = one_claim(results, "auto")
    assert claim.verdict == "does not hold" and "1 against sharp 0.95 (at the edge of its grid)" in claim.value


def carry(results: dict[str, Any], *losses: float | None) -> list[str]:
    """Verdicts on whether the constants of relative and of SGD carry, with these losses at the factors."""
    for rule in ("relative", "constant"):
        for one, loss in zip(results[f"logistic-{rule}-batch-8"]["carried"], losses, strict=True):
            for run in one["runs"]:
                run.update(final_loss=loss, diverged=loss is None)
    return [one_claim(results, words).verdict for words in ("of relative carries", "SGD's constant")]


def test_a_constant_carries_if_it_is_still_about_the_best(results: dict[str, Any]) -> None:
    assert plan.FACTORS[2:] == (1, 8)
    assert carry(results, 2.0, 0.995, 1.0, 2.0) == carry(results, 2.0, 1.5, 1.0, None) == ["holds", "does not hold"]
    assert carry(results, 2.0, 0.9, 1.0, 2.0) == carry(results, 0.9, 2.0, None, None) == ["does not hold", "holds"]
    assert carry(results, 2.0, 1.5, 1.0, 0.9) == ["does not hold", "holds"]


def test_the_largest_or_smallest_factor_tried_may_not_be_the_best(results: dict[str, Any]) -> None:
    assert carry(results, 2.0, 1.5, 1.0, 0.995) == carry(results, 0.995, 1.5, 1.0, 2.0) == ["not testable here"] * 2
    assert carry(results, None, None, None, None) == ["not testable here"] * 2
