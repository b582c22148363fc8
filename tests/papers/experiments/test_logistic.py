"""The logistic experiment in its smallest form, and claims that can come out either way."""

import copy
from typing import Any

import numpy as np
import pytest

from lorate_papers.experiments import Options, load_experiment
from lorate_papers.experiments.logistic import plan
from papers.experiments.tiny import QUICK, assert_sound_when_lost, lost, only, results_of, verdicts

TINY = plan.QUICK._replace(steps=16, seeds=2, points=2, long=20, equal_ranks=(2, 4), stds=(0.001, 0.1)
)  # fmt: skip


@pytest.fixture(scope="module")
def computed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "QUICK", TINY)
        yield results_of("logistic")


@pytest.fixture
def results(computed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(plan, "QUICK", TINY)
    return copy.deepcopy(computed)


def on_digits(found: dict[str, str], part: str) -> str:
    return only({claim: verdict for claim, verdict in found.items() if not claim.startswith("On embeddings")}, part)


def test_every_figure_and_claim_comes_out(results: dict[str, Any]) -> None:
    found = verdicts("logistic", results)
    assert (
        len(found) == 33
        and sum("asymptotic rate" in claim and verdict == "not testable here" for claim, verdict in found.items()) == 2
    )
    drawings = load_experiment("logistic").drawings(results, QUICK)
    assert [drawing.name for drawing in drawings] == [
        "paper-rules-rank-4", "proved-rules-rank-4", "constants",
        "embeddings-paper-rules-rank-4", "embeddings-constants", "rates", "bounds", "ranks", "origin",
    ]  # fmt: skip
    assert all(drawing.description and drawing.figure.axes for drawing in drawings)


@pytest.mark.parametrize("options", [QUICK, Options()])
def test_nothing_is_compared_where_every_run_diverged(
    results: dict[str, Any], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FULL", TINY)
    along = (
        "flat around|highly correlated|No proved|grows like|without bound|depend on the rank|O\\(1/√T\\)|tells how far"
    )
    assert_sound_when_lost("logistic", lost(results), options, along)  # what is measured along the runs is there


def test_constants_of_the_same_scale(results: dict[str, Any]) -> None:
    found = results["tuned-adaptive-loss-rank-4"]
    for run, first, mean in zip(found["runs"], found["first step"], found["mean step"], strict=True):
        assert first["lr"] == pytest.approx(run["trace"]["eta"][0]) and first["seed"] == run["seed"]
        assert mean["lr"] == pytest.approx(np.mean(run["trace"]["eta"]))
    constant = results["tuned-constant-rank-4"]
    assert {run["lr"] for run in constant["large"]} == {10 * constant["best"]}
    assert {run["lr"] for run in constant["small"]} == {0.1 * constant["best"]}
    assert [trial["lr"] for trial in constant["grid"]] == list(plan.grid("constant", QUICK))


def test_runs_on_embeddings_are_on_embeddings(results: dict[str, Any]) -> None:
    """Both start at the logarithm of ten classes, with other gradients."""

    def first(name: str) -> tuple[float, float]:
        run = results[name]["runs"][0] if name.count("tuned") else results[name]
        return run["first_loss"], run["trace"]["grad_sq"][0]

    for name in ("tuned-constant-rank-4", "proved-sharp-rank-4-seed-0"):
        (loss, gradient), (embedded_loss, embedded_gradient) = first(name), first(f"embeddings-{name}")
        assert loss == pytest.approx(embedded_loss) == pytest.approx(np.log(10))
        assert gradient != pytest.approx(embedded_gradient, rel=0.01)


def test_a_violated_inequality_is_told(results: dict[str, Any]) -> None:
    assert on_digits(verdicts("logistic", results), "No proved inequality") == "holds"
    run = results["proved-sharp-rank-4-seed-0"]
    assert {line["verdict"] for line in run["certificate"]["lines"]} == {"holds"}
    run["certificate"]["lines"][-1]["verdict"] = "violated"
    assert on_digits(verdicts("logistic", results), "No proved inequality") == "does not hold"


def test_a_gradient_above_its_bound_is_told(results: dict[str, Any]) -> None:
    results["proved-theory-rank-4-seed-1"]["bounds"]["min_grad_sq"][5] = 1e-9
    assert on_digits(verdicts("logistic", results), "No proved inequality") == "does not hold"


def test_claims_of_speed_come_out_either_way(results: dict[str, Any]) -> None:
    def finals(rule: str, loss: float | None) -> None:
        for run in results[f"tuned-{rule}-rank-4"]["runs"]:
            run.update(final_loss=loss, diverged=loss is None)

    for rule in plan.TUNED:
        finals(rule, 1.0)
        results[f"tuned-{rule}-rank-4"]["at_edge"] = False
    assert on_digits(verdicts("logistic", results), "ends lower than the best constant rate") == "does not hold"
    finals("constant", 2.0)
    assert on_digits(verdicts("logistic", results), "ends lower than the best constant rate") == "holds"
    finals("normalized", None)
    assert on_digits(verdicts("logistic", results), "ends lower than the best constant rate") == "does not hold"


def test_the_order_of_the_rate_is_read_from_the_gradient(results: dict[str, Any], monkeypatch: Any) -> None:
    """A full experiment whose long runs fall like a given power."""
    monkeypatch.setattr(plan, "FULL", TINY)
    steps = np.geomspace(1, 5000, 100)
    verdict = {}
    for power in (-0.2, -0.6, -1.2):
        for rule in ("sharp", "adaptive-loss", "constant"):
            trace = {"step": steps.tolist(), "grad_sq": (steps**power).tolist(), "sum_eta": (steps**0.5).tolist()}
            results[f"long-{rule}"] = {"steps": 5000, "trace": trace}
        found = verdicts("logistic", results, Options())
        verdict[power] = on_digits(found, "keeps to our O(1/√T)")
        assert on_digits(found, "grows like √T") == "holds"
    assert verdict == {-0.2: "does not hold", -0.6: "holds", -1.2: "holds"}


def test_a_run_that_is_not_past_its_peak_leaves_the_order_open(results: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(plan, "FULL", TINY)
    steps = np.geomspace(1, 5000, 100)

    def trace(values: Any) -> dict[str, Any]:
        return {"step": steps.tolist(), "grad_sq": values.tolist(), "sum_eta": (steps**0.5).tolist()}

    for rule, values in (("sharp", steps), ("adaptive-loss", steps**-0.8), ("constant", steps**-0.8)):
        results[f"long-{rule}"] = {"steps": 5000, "trace": trace(values)}
    for rank, values in zip(TINY.equal_ranks, (steps**-1.0, steps), strict=True):
        results[f"equal-start-rank-{rank}"]["trace"] |= trace(values)
    found = verdicts("logistic", results, Options())
    assert on_digits(found, "keeps to our O(1/√T)") == "not testable here"
    assert on_digits(found, "The order of the rate does not depend") == "not testable here"
    results["long-constant"]["trace"] = trace(steps**-0.2)
    assert on_digits(verdicts("logistic", results, Options()), "keeps to our O(1/√T)") == "does not hold"


def test_a_speed_that_no_rank_reaches_is_not_the_same_speed(results: dict[str, Any]) -> None:
    for rank in TINY.equal_ranks:
        results[f"equal-start-rank-{rank}"]["first_loss"] = 1e-9
    assert on_digits(verdicts("logistic", results), "Nor does the speed depend") == "not testable here"


def test_early_correlation_compares_two_rules_from_one_start() -> None:
    found = plan.early_correlation(("adaptive", "adaptive"), 3.0, 4, 20, 0, True)
    assert found["loss"]["early"] == pytest.approx(1) and found["eta"]["later"] == pytest.approx(1, abs=0.05)
