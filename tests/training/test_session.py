"""Whole runs on tiny models: what they leave behind, how they go on, and how they fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.training import Listener, TrainConfig, dry_run, resume, train
from training_runs import Notices, PressCtrlC, adapter_bytes, metrics

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


def test_a_run_leaves_everything_behind(options: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**options), tmp_path / "run", command="lorate train --model x")
    run = outcome.run
    assert outcome.status == "finished" and outcome.steps == 8
    assert outcome.change is not None and outcome.change.after < outcome.change.before
    info = run.read_run()
    assert info["status"] == "finished" and info["command"] == "lorate train --model x"
    assert info["result"]["eval_after"] == outcome.change.after and info["rule"]["lr"] == 20.0
    assert [record["step"] for record in metrics(run.path)] == list(range(1, 9))
    assert all(record["tokens"] > 0 and record["samples"] for record in metrics(run.path))
    evaluations = read_jsonl(run.evaluations).records
    assert [record["step"] for record in evaluations] == list(range(9))
    assert evaluations[outcome.kept]["eval_loss"] == outcome.change.after == min(r["eval_loss"] for r in evaluations)
    assert evaluations[-1].keys() >= {"perplexity", "token_accuracy", "choice", "alarms"}
    assert "<svg" in run.report.read_text() and "lorate train --model x" in run.report.read_text()
    (sample,) = json.loads(run.samples.read_text())
    assert sample["prompt"].endswith(":")
    assert "Held-out loss" in (run.adapter / "README.md").read_text()
    assert TrainConfig.from_mapping(run.read_config(), source="config") == TrainConfig(**options)


def test_the_same_seed_gives_the_same_numbers(options: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(TrainConfig(**options), tmp_path / name)
    train(TrainConfig(**{**options, "seed": 1}), tmp_path / "three")
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")
    assert metrics(tmp_path / "one") != metrics(tmp_path / "three")


@pytest.mark.parametrize("at", [1, 5])
def test_interrupted_and_resumed_is_the_uninterrupted_run(options: dict[str, Any], tmp_path: Path, at: int) -> None:
    whole = train(TrainConfig(**options), tmp_path / "whole")
    broken = train(TrainConfig(**options), tmp_path / "broken", listener=PressCtrlC(at))
    assert broken.status == "interrupted" and at <= broken.steps < 8
    assert broken.run.read_run()["status"] == "interrupted"
    resumed = resume(tmp_path / "broken")
    assert resumed.status == "finished"
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "whole")
    assert resumed.change == whole.change
    assert adapter_bytes(broken.run.path) == adapter_bytes(whole.run.path)
    steps = [record["step"] for record in read_jsonl(broken.run.evaluations).records]
    assert steps == list(range(9))


def test_a_finished_run_goes_on_only_with_more_steps(options: dict[str, Any], tmp_path: Path) -> None:
    train(TrainConfig(**{**options, "steps": 4}), tmp_path / "run")
    with pytest.raises(LorateError, match="has finished its 4 steps; give --steps to train on"):
        resume(tmp_path / "run")
    assert resume(tmp_path / "run", steps=8).steps == 8
    train(TrainConfig(**options), tmp_path / "whole")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_the_adapter_loads_without_lorate(options: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**options), tmp_path / "run")
    config = json.loads((outcome.run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == options["model"] and config["lora_alpha"] == 4.0
    usage = outcome.run.readme.read_text()
    code = usage.split("```python")[1].split("```")[0]
    program = (
        "import sys; sys.modules['lorate'] = None\n" + code
        + "\nprint(sum(float(p.abs().sum()) for n, p in model.named_parameters() if 'lora_B' in n) > 0)"
    )  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=outcome.run.path, capture_output=True, text=True
    )
    assert result.stdout.strip().endswith("True"), result.stderr


def test_nothing_is_overwritten(options: dict[str, Any], tmp_path: Path) -> None:
    train(TrainConfig(**{**options, "steps": 2}), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(LorateError, match="never overwritten; continue the run with --resume"):
        train(TrainConfig(**options), tmp_path / "run")
    with pytest.raises(LorateError, match=r"targets: no layer of .* is called 'nope'; it has: .*q_proj"):
        train(TrainConfig(**{**options, "targets": ["nope"]}), tmp_path / "run", force=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    train(TrainConfig(**{**options, "steps": 3}), tmp_path / "run", force=True)
    assert len(metrics(tmp_path / "run")) == 3


def test_mistakes_in_data_and_model_leave_no_directory(options: dict[str, Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3}\n')
    for change, message in [
        ({"data": str(bad)}, "bad.jsonl.*line 2|line 2.*bad.jsonl"),
        ({"model": str(tmp_path)}, "no model|config.json"),
        ({"device": "cuda"}, "this machine has none"),
    ]:
        if "device" in change and torch.cuda.is_available():
            continue
        with pytest.raises(LorateError, match=message):
            train(TrainConfig(**{**options, **change}), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_dry_run_counts_and_writes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    plan = dry_run(TrainConfig(**options))
    assert plan.adapted_layers == 4 and plan.trainable == 2 * (2 * 2 * 16 + 2 * (16 + 8))
    assert plan.samples_per_step == 4 and plan.tokens_per_step == 64 and plan.memory_bytes > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl"]


def test_a_run_that_diverges_can_stop_itself(options: dict[str, Any], tmp_path: Path) -> None:
    wild = {**options, "rule": "constant", "lr": 1e6, "on_alarm": "stop", "dropout": 0.0, "steps": 60}
    outcome = train(TrainConfig(**wild), tmp_path / "run")
    assert outcome.status == "stopped" and outcome.steps < 60
    kinds = {alarm["kind"] for record in metrics(tmp_path / "run") for alarm in record["alarms"]}
    assert kinds & {"diverging", "non-finite"}
    assert all(torch.isfinite(p).all() for p in _adapter(outcome.run.adapter).values())


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_a_failed_run_says_so(options: dict[str, Any], tmp_path: Path) -> None:
    class Faulty(Listener):
        def step(self, record: Any, total: int) -> None:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(TrainConfig(**options), tmp_path / "run", listener=Faulty())
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "failed" and info["error"] == "power cut"


def test_text_classifier(bert_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    rows = [f"{q} {t} {x},{q}" for q in ("good", "bad") for t in ("film", "book") for x in "abcde"]
    file.write_text("text,label\n" + "\n".join(rows))
    config = TrainConfig(
        model=str(bert_dir), data=str(file), task="sequence-classification", rank=2, steps=12, lr=1.0, batch_size=4,
        rule="normalized", device="cpu", eval_fraction=0.3,
    )  # fmt: skip
    outcome = train(config, tmp_path / "run")
    assert outcome.change is not None and outcome.change.after < outcome.change.before
    assert outcome.samples[0]["after"] in ("good", "bad") and "[label: " in outcome.samples[0]["prompt"]


def test_image_classifier(resnet_dir: Path, image_folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        model=str(resnet_dir), data=str(image_folder), task="image-classification", rank=2, steps=4, lr=0.5,
        batch_size=4, rule="normalized", device="cpu", eval_fraction=0.3,
    )  # fmt: skip
    outcome = train(config, tmp_path / "run")
    assert outcome.status == "finished" and outcome.samples[0]["after"] in ("dark", "light")
    assert all(record["tokens"] == 0 for record in metrics(outcome.run.path))


@pytest.mark.fault("frozen weight that is not finite")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_weights_that_are_not_finite_is_refused(
    value: float, options: dict[str, Any], llama_dir: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    damaged = Path(shutil.copytree(llama_dir, tmp_path / "damaged"))
    weights = load_file(damaged / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LorateError, match=r"damaged: model.layers.1.mlp.up_proj.weight holds values that are not fin"):
        train(TrainConfig(**{**options, "model": str(damaged)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("label out of range")
def test_a_token_that_the_model_does_not_have_is_refused(
    options: dict[str, Any], llama_dir: Path, tmp_path: Path
) -> None:
    """Labels of a language model are tokens: beyond its vocabulary they would index outside of its weights."""
    other = Path(shutil.copytree(llama_dir, tmp_path / "other"))
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["three"] = 99
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    train(TrainConfig(**{**options, "model": str(other), "steps": 1}), tmp_path / "run")  # no text has the word
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text().replace(" one", " three", 1))
    with pytest.raises(LorateError, match=r"makes token 99 of ' \w+ \w+ three', but the model has embeddings for 16"):
        train(TrainConfig(**{**options, "model": str(other)}), tmp_path / "again")


def test_a_run_that_was_cut_short_says_how_many_steps_it_took(options: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**options), tmp_path / "run", listener=PressCtrlC(3))
    assert outcome.steps < 8
    assert f" {outcome.steps} steps of 4 samples" in (outcome.run.adapter / "README.md").read_text()
    with pytest.raises(LorateError, match=f"has done {outcome.steps} steps already; give --steps {outcome.steps} or"):
        resume(tmp_path / "run", steps=outcome.steps - 1)
    assert outcome.run.read_run()["config"]["steps"] == 8


def test_an_error_is_not_hidden_by_a_run_json_that_is_gone(options: dict[str, Any], tmp_path: Path) -> None:
    class Removes(Listener):
        def step(self, record: Any, total: int) -> None:
            (tmp_path / "run" / "run.json").unlink()
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(TrainConfig(**options), tmp_path / "run", listener=Removes())


@pytest.mark.parametrize("train_on", ["answers", "last", "all"])
def test_chats_need_a_template_whatever_is_trained_on(train_on: str, options: dict[str, Any], tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "good"}, {"role": "assistant", "content": "bad"}]
    chats.write_text("\n".join(json.dumps({"messages": [*turns, {**turns[0], "content": w}]}) for w in "abc"))
    with pytest.raises(LorateError, match="no chat template"):
        dry_run(TrainConfig(**{**options, "data": str(chats), "train_on": train_on}))


def test_records_that_are_left_out_are_told(options: dict[str, Any], tmp_path: Path) -> None:
    lines = Path(options["data"]).read_text().splitlines()
    (tmp_path / "held.jsonl").write_text("\n".join(lines[:3]))
    listener = Notices()
    dry_run(TrainConfig(**{**options, "eval_data": str(tmp_path / "held.jsonl")}), listener)
    assert listener.notices == [
        f"Records of {options['data']} that are also in the evaluation data are left out of training: 3."
    ]
