"""The adapter that is kept is the best one, and the run says so."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.training import TrainConfig, resume, train
from lorate.training.evaluation import Scores
from lorate.training.selection import halves, overfitting
from tiny_models import save_llama
from training_runs import Notices, PowerCut, PressCtrlC, adapter_bytes, evaluations

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


@pytest.fixture
def overfits(options: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Two records to train on, whose answers those of the held-out ones contradict."""
    words = ["good", "bad", "film", "book", "a", "b", "c", "d"]
    for name, answers in (("train", ["one", "two"]), ("held", ["three", "one"])):
        rows = [{"prompt": f"{w} :", "completion": f" {answers[i % 2]} {answers[i % 2]}"} for i, w in enumerate(words)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows if name == "held" else rows[:2])))
    model = save_llama(tmp_path / "lively", initializer_range=0.3)  # logits large enough to learn by heart
    layers = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return options | {
        "model": str(model), "data": str(tmp_path / "train.jsonl"), "eval_data": str(tmp_path / "held.jsonl"),
        "steps": 40, "rule": "normalized", "lr": 0.3, "dropout": 0.0, "rank": 4, "alpha": 16.0, "targets": layers,
    }  # fmt: skip


def test_a_run_that_overfits_keeps_its_best_adapter_and_says_so(overfits: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**overfits), tmp_path / "run")
    records = evaluations(tmp_path / "run")
    trained = {record["step"]: record["eval_loss"] for record in records[1:]}
    assert outcome.kept == min(trained, key=trained.get) < 40 and outcome.change is not None
    assert outcome.change.after == trained[outcome.kept] < trained[40]
    (alarm,) = [alarm for record in records for alarm in record.get("alarms", ())]
    assert alarm["kind"] == "overfitting" and "--patience" in alarm["remedy"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"The adapter of step {outcome.kept} of 40 was kept, because it has the lowest held-out loss" in page
    assert (
        "It was chosen on these same examples, so the number is a little too good" in page
        and "1 alarm: overfitting" in page.lower()
    )
    assert (
        adapter_bytes(tmp_path / "run")
        == (tmp_path / "run" / "best" / f"step-{outcome.kept}" / "adapter_model.safetensors").read_bytes()
    )
    last = train(TrainConfig(**overfits, keep="last"), tmp_path / "last")
    assert last.kept == 40 and last.change is not None and last.change.after == trained[40]


@pytest.mark.parametrize("cut", [9, 23, 39])
def test_a_resumed_run_keeps_the_same_adapter(cut: int, overfits: dict[str, Any], tmp_path: Path) -> None:
    whole = train(TrainConfig(**overfits), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(TrainConfig(**overfits), tmp_path / "broken", listener=PowerCut(cut))
    resumed = resume(tmp_path / "broken")
    assert (resumed.kept, resumed.change, resumed.figures) == (whole.kept, whole.change, whole.figures)
    assert adapter_bytes(tmp_path / "broken") == adapter_bytes(tmp_path / "whole")
    assert evaluations(tmp_path / "broken") == evaluations(tmp_path / "whole")


def test_a_best_adapter_that_is_gone_is_told(overfits: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        train(TrainConfig(**overfits), tmp_path / "run", listener=PowerCut(33))
    for place in (tmp_path / "run" / "best").glob("step-*"):
        shutil.rmtree(place)
    listener = Notices()
    outcome = resume(tmp_path / "run", listener=listener)
    assert "The best adapter so far is gone" in listener.notices[-1]
    assert outcome.kept > 30 and outcome.status == "finished"


def test_an_interrupted_run_leaves_its_best_adapter(overfits: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**overfits), tmp_path / "run", listener=PressCtrlC(33))
    assert outcome.status == "interrupted" and outcome.kept < 30 and f"step {outcome.kept} of" in outcome.chosen
    kept = tmp_path / "run" / "best" / f"step-{outcome.kept}" / "adapter_model.safetensors"
    assert adapter_bytes(tmp_path / "run") == kept.read_bytes()


def test_patience_ends_the_run(overfits: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**overfits, patience=2), tmp_path / "run")
    assert outcome.status == "finished" and outcome.steps == outcome.kept + 10 < 40
    assert "ended early: 2 evaluations in a row" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(LorateError, match="has finished"):
        resume(tmp_path / "run")


def test_with_enough_examples_one_half_chooses_and_the_other_judges(options: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**{**options, "eval_fraction": 0.6}), tmp_path / "run")
    assert outcome.change is not None and outcome.change.examples == 21
    assert "chosen on 21 other held-out examples" in outcome.chosen


METRIC = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
assert (folder / "adapter_model.safetensors").exists()
print("score:", 5.0 if folder.name == "step-15" else 1.0)
"""


def test_a_metric_of_ones_own_chooses(overfits: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "metric.py").write_text(METRIC)
    command = f"{sys.executable} {tmp_path / 'metric.py'}"
    outcome = train(TrainConfig(**overfits, metric_command=command), tmp_path / "run")
    assert outcome.kept == 15 and outcome.figures is not None and outcome.figures["metric"] == (1.0, 5.0)
    assert "because it has the best metric" in outcome.chosen
    (tmp_path / "metric.py").write_text("print('nothing'); raise SystemExit('no such thing')")
    with pytest.raises(LorateError, match=r"should print a number .* it printed: no such thing"):
        train(TrainConfig(**overfits, metric_command=command), tmp_path / "other")


def test_an_alarm_needs_a_clear_rise() -> None:
    lowest = torch.tensor([1.0, 2.0, 3.0, 4.0])
    noise = torch.tensor([0.1, -0.1, 0.1, -0.1])
    assert overfitting(9, lowest + noise, 3, lowest) is None
    assert overfitting(9, lowest + 1, 3, lowest) is not None  # the same rise in every example
    alarm = overfitting(9, lowest + 0.1 + noise, 3, lowest)
    assert alarm is None or "standard errors" in alarm.message
    clear = overfitting(9, lowest + 0.3 + noise, 3, lowest)
    assert clear is not None and "rose to 2.8 from 2.5 at step 3" in clear.message
    assert overfitting(9, lowest[:1] + 1, 3, lowest[:1]) is None  # a single example has no standard error


def test_halves_have_no_example_in_common() -> None:
    chooses, judges = halves(41, "best")
    assert sorted([*range(41)[chooses], *range(41)[judges]]) == list(range(41))
    assert halves(41, "last") == (slice(None), slice(None))


def test_figures_of_a_classifier_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    label, found = torch.randint(4, (2, 50), generator=torch.manual_seed(0)).double()
    table = torch.stack([torch.zeros(50), label == found, torch.ones(50), label, found, torch.arange(50.0)], dim=1)
    figures = Scores(table, "classes").figures()
    assert figures["macro_f1"] == pytest.approx(f1_score(label, found, average="macro"))
    assert figures["accuracy"] == pytest.approx(float((label == found).double().mean()))


def test_perplexity_is_over_tokens() -> None:
    table = torch.tensor([[1.0, 1, 3, 0, 0, 0], [2.0, 1, 1, 0, 0, 1]])
    assert Scores(table, "tokens").figures() == pytest.approx({"perplexity": 2.718281828**1.25, "token_accuracy": 0.5})


def test_evaluations_say_which_step_they_are_of(options: dict[str, Any], tmp_path: Path) -> None:
    train(TrainConfig(**{**options, "eval_every": 3}), tmp_path / "run")
    assert [record["step"] for record in read_jsonl(tmp_path / "run" / "eval.jsonl").records] == [0, 3, 6, 8]
