"""Rule auto in the transformers Trainer and TRL: replays, averages, checkpoints."""

import json
from pathlib import Path

import peft
import pytest
import torch
from test_transformers import arguments, language_model, pad, run, texts
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.jsonl import read_jsonl
from training_runs import OWN


@pytest.mark.parametrize("kind", ["texts", "images", "sft"])
def test_micro_batches_give_the_steps_of_the_whole_batch(kind, tmp_path: Path):
    found = []
    for batch, accumulate in ((8, 1), (2, 4)):
        place = tmp_path / str(batch)
        trainer = run(kind, place, batch, accumulate, "auto")
        assert trainer.optimizer.optimizer.is_averaged
        found.append(read_jsonl(place / "monitor" / "metrics.jsonl").records)
    for one, other in zip(*found, strict=True):
        for name in ("loss", "eta", "average_slope"):
            assert one[name] == other[name] or one[name] == pytest.approx(other[name], rel=1e-2), name


@pytest.mark.parametrize("is_lora", [True, False])
def test_bfloat16_autocast_is_noticed(is_lora: bool, tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, bf16=True, max_steps=2))
    model = language_model()
    if not is_lora:
        config = peft.LoHaConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(model.unload(), config)
    trainer = lorate.attach(Trainer(model, settings, train_dataset=texts(), data_collator=pad))
    trainer.train()
    assert trainer.optimizer.optimizer.forward.dtype == torch.bfloat16


class Weights(TrainerCallback):
    """The adapters that are evaluated, and those that are saved."""

    def __init__(self) -> None:
        self.evaluated: list[torch.Tensor] = []

    def on_evaluate(self, args, state, control, model=None, **_):
        self.evaluated.append(adapters(model))


def adapters(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def test_what_is_evaluated_and_saved_is_the_average(tmp_path: Path):
    options = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    settings = TrainingArguments(**arguments(tmp_path, **options))
    model, weights = language_model(), Weights()
    trainer = lorate.attach(Trainer(model, settings, train_dataset=texts(), eval_dataset=texts(4), data_collator=pad))
    trainer.add_callback(weights)
    trainer.train()
    optimizer = trainer.optimizer.optimizer
    final = adapters(model)
    assert torch.equal(weights.evaluated[-1], final)
    assert not model._forward_pre_hooks
    optimizer.use_last()
    assert not torch.equal(adapters(model), final)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "checkpoint-4" / "adapter_model.safetensors")
    own = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    optimizer.use_average()
    assert all(torch.equal(saved[name], own[name]) for name in saved)


def test_resume_gives_the_same_numbers(tmp_path: Path):
    def trainer(path: Path, steps: int, monitor: lorate.Monitor) -> Trainer:
        settings = TrainingArguments(**arguments(path, max_steps=steps, save_strategy="steps", save_steps=3))
        model = language_model()
        return lorate.attach(Trainer(model, settings, train_dataset=texts(), data_collator=pad), monitor=monitor)

    whole = trainer(tmp_path / "a", 8, lorate.Monitor(tmp_path / "whole"))
    whole.train()
    trainer(tmp_path / "b", 3, lorate.Monitor(tmp_path / "halves")).train()
    rest = trainer(tmp_path / "b", 8, lorate.Monitor(tmp_path / "halves", resume_at=3))
    rest.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-3"))
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "halves")
    ]
    for one, other in zip(*lines, strict=True):
        assert one | OWN == other | OWN
    assert torch.equal(adapters(whole.model), adapters(rest.model))


def test_what_steers_reaches_the_records(tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, max_steps=25))
    lorate.attach(
        Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad), monitor=tmp_path / "monitor"
    ).train()
    records = read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records
    assert records[0]["average_slope"] is None
    assert all(record["average_slope"] is not None for record in records[1:])
