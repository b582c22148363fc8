"""The experiment on the recipe of LoRA-α: how LoRA+ is run, what merging costs, claims that come out either way."""

import json
import math
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lorate.adapters import find_pairs
from lorate.runs.strict_json import encode
from lorate_papers.experiments import Options
from lorate_papers.experiments.recipe import plan
from lorate_papers.experiments.recipe.claims import decide
from lorate_papers.experiments.recipe.figures import draw
from lorate_papers.workloads import AdapterSpec, load_workload

FULL = plan.small_lm(Options())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(1, 32), st.floats(1e-3, 0.1))
def test_lora_plus_is_lora_with_more_alpha_under_adam(seed: int, rank: int, ratio: float, lr: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(9, width, generator=draw, dtype=torch.float64) for width in (4, 3))
    ends = []
    for times, lr_b in ((1.0, ratio * lr), (ratio, lr)):
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank * times, target_modules=["0", "2"])
        model = peft.get_peft_model(layers, config).double()
        pairs = find_pairs(model)
        groups = [{"params": [p.A for p in pairs], "lr": lr}, {"params": [p.B for p in pairs], "lr": lr_b}]
        adam = torch.optim.AdamW(groups, weight_decay=0.0, eps=1e-30)
        for _ in range(15):
            adam.zero_grad()
            (model(x) - y).square().mean().backward()
            adam.step()
        ends.append(model(x).detach())
    assert torch.allclose(*ends, rtol=1e-6, atol=1e-8)


def test_pissa_starts_at_the_base_model_from_its_leading_directions() -> None:
    workload = load_workload("small-lm", quick=True)
    base = workload.validation_loss(workload.model(None, 0))
    model = workload.model(AdapterSpec(**(plan.METHODS["PiSSA"] or {})), 0)
    assert workload.validation_loss(model) == pytest.approx(base, rel=1e-4)
    assert all(float(pair.B.detach().norm()) > 0 for pair in find_pairs(model))


def test_what_merging_costs_is_measured_and_the_model_is_left_as_it_was() -> None:
    workload = load_workload("small-lm", quick=True)
    model = workload.model(AdapterSpec(8, 16.0), 0)
    with torch.no_grad():
        for pair in find_pairs(model):
            pair.B.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    before = workload.validation_loss(model)
    found = plan.merging(workload, model)
    assert workload.validation_loss(model) == before
    assert found["beside"] != before and found["merged"] != found["beside"]  # both are rounded, each in its own way
    assert abs(found["merged"] - found["beside"]) < 0.02


def test_a_run() -> None:
    small: dict[str, Any] = {"workload": "small-lm", "small": True, "batch": 1, "steps": 2, "every": 1, "seed": 0}
    found = plan.train_and_merge({"rank": 2, "alpha": 4.0}, "adamw", 1e-3, **small, merge=True)
    assert found["validation"]["step"] == [0, 1, 2] and set(found["merged"]) == {"beside", "merged"}
    assert found["accuracy"] is None  # a language model has no classes
    assert plan.train_and_merge(None, "adamw", 1e-3, **small, merge=False)["merged"] is None


BEST = dict.fromkeys(plan.METHODS, 6.32e-3) | {"all weights": 6.32e-4, "LoRA-α": 6.32e-4}
LEVEL = {"all weights": 2.0, "LoRA": 2.3, "rsLoRA": 2.3, "LoRA+": 2.3, "PiSSA": 2.3, "LoRA-α": 2.01}


def results(study: plan.Study, **world: Any) -> dict[str, Any]:
    """What the runs would return: the loss is lowest at each method's best rate, and wide around it."""
    w: dict[str, Any] = {
        "best": BEST, "level": LEVEL, "merge": 0.001, "auto": 2.0, "power": -1.0,
    } | world  # fmt: skip
    found: dict[str, Any] = {}
    for seed in study.seeds:
        for method in plan.METHODS:
            for rate in study.rates:
                off = math.log(rate / (BEST | w["best"])[method]) ** 2
                loss = w["level"][method] + (0.01 if method in ("all weights", "LoRA-α") else 0.05) * off + 0.001 * seed
                times = [0, 40, 80, 120]
                curve = [loss + 1 - time / 120 for time in times]
                found[plan.run_name(method, rate, seed)] = {
                    "validation": {"step": times, "loss": curve}, "final_validation": loss, "diverged": False,
                    "eta": rate, "merged": {"beside": loss, "merged": loss + w["merge"]},
                }  # fmt: skip
        for alpha in plan.AUTO_ALPHAS:
            loss = 2.0 if alpha == plan.AUTO_ALPHAS[0] else w["auto"]
            found[plan.auto_name(alpha, seed)] = {"final_validation": loss, "eta": alpha ** w["power"]}
    return json.loads(encode(found))  # type: ignore[no-any-return]


OTHER_LEVEL = LEVEL | {"LoRA-α": 2.6}


@pytest.mark.parametrize(
    ("place", "world"),
    [
        (0, {"level": LEVEL | {"LoRA-α": 9.0}}),
        (1, {"level": OTHER_LEVEL}),
        (2, {"level": OTHER_LEVEL}),
        (3, {"best": {"LoRA-α": 6.32e-5}}),
        (4, {"level": OTHER_LEVEL}),
        (5, {"level": OTHER_LEVEL}),
        (6, {"merge": 0.1}),
        (7, {"auto": 2.3}),
        (8, {"power": -0.4}),
    ],
)
def test_every_claim_can_hold_and_fail(place: int, world: dict[str, Any]) -> None:
    assert decide(results(FULL), FULL)[place].verdict == "holds"
    assert decide(results(FULL, **world), FULL)[place].verdict == "does not hold"


@pytest.mark.parametrize(
    ("own", "rival", "verdict"),
    [
        (2e-3, 6.32e-3, "holds"),
        (1.12e-3, 2e-3, "holds"),
        (2e-3, 2e-4, "not testable here"),  # a rival on the other side is as near
        (2e-3, 6.32e-4, "does not hold"),
        (6.32e-3, 2e-2, "does not hold"),  # nearer than the others, but ten times as large
    ],
)
def test_the_best_rate_has_to_be_nearer_to_that_of_full_tuning_than_any_rivals(
    own: float, rival: float, verdict: str
) -> None:
    claim = decide(results(FULL, best=dict.fromkeys(plan.RIVALS, 2e-2) | {"LoRA-α": own, "rsLoRA": rival}), FULL)[3]
    assert claim.verdict == verdict and "a factor of" in claim.value


def test_a_best_rate_at_the_edge_and_a_method_that_diverged() -> None:
    assert decide(results(FULL, best={"LoRA-α": 2e-5}), FULL)[3].verdict == "not testable here"
    lost = results(FULL)
    for name, run in lost.items():
        if name.startswith("LoRA-alpha"):
            run |= {"final_validation": None, "diverged": True, "merged": None}
            run["validation"] = {"step": [0], "loss": [3.0]}
    verdicts = [claim.verdict for claim in decide(lost, FULL)]
    assert verdicts[2] == verdicts[4] == verdicts[5] == "does not hold" and verdicts[6] == "not testable here"
    assert [one.name for one in draw(lost, FULL)] == ["rates", "gap"]


@pytest.mark.parametrize(("own", "verdict"), [(0.6, "holds"), (0.5, "not testable here"), (0.4, "does not hold")])
def test_accuracy_is_compared_where_there_is_one(own: float, verdict: str) -> None:
    found, study = results(FULL), FULL._replace(classes=True)
    for name, run in found.items():
        run["accuracy"] = (own if name.startswith("LoRA-alpha") else 0.5) + 0.001 * int(name[-1])
    ours = [claim for claim in decide(found, study) if "right on more held-out examples" in claim.claim]
    assert [claim.verdict for claim in ours] == [verdict] and len(decide(found, FULL)) == len(decide(found, study)) - 1


def test_the_quick_form_on_chats_says_that_it_has_no_accuracy() -> None:
    study = plan.minilm(Options(quick=True))
    found = {name: run | {"accuracy": None} for name, run in results(study).items()}
    assert [claim.verdict for claim in decide(found, study) if "no classes" in claim.value] == ["not testable here"]


def test_only_the_two_methods_that_a_claim_compares_are_merged() -> None:
    merged = {run.name.split("-rate")[0] for run in plan.runs(FULL) if run.arguments["merge"]}
    assert merged == {"LoRA", "LoRA-alpha"}


def test_which_study_has_an_accuracy() -> None:
    studies = (plan.small_lm, plan.minilm, plan.smollm2)
    assert [study(Options()).classes for study in studies] == [False, True, False]
