"""Rule auto in the transformers Trainer and TRL: replays, averages, checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from test_transformers import arguments, language_model, pad, run, texts
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.rules.auto import rule
from training_runs import OWN


@pytest.fixture
def replayed(monkeypatch):
    """Training share and replayed loss at the same weights, for every probe."""
    seen = []
    original = rule.second_difference

    def probe(last, loss):
        seen.append((loss if last.part is None else last.part, last.loss_before(0.0), loss))
        return original(last, loss)

    monkeypatch.setattr(rule, "second_difference", probe)
    return seen


@pytest.mark.parametrize("kind", ["texts", "images", "sft"])
@pytest.mark.parametrize(("batch", "accumulate"), [(8, 1), (2, 4)])
def test_the_replayed_loss_is_the_share_that_was_trained_on(kind, batch, accumulate, tmp_path: Path, replayed):
    trainer = run(kind, tmp_path, batch, accumulate, "auto")
    assert len(replayed) == 2  # of three steps the last two have a displacement to look back at
    for share, again, whole in replayed:
        assert again == pytest.approx(share, rel=1e-5)
        assert share < whole or accumulate == 1
    records = read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records
    assert [record["step"] for record in records] == [1, 2, 3]
    assert trainer.optimizer.optimizer.is_averaged


def test_bfloat16_autocast_is_noticed(tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, bf16=True, max_steps=2))
    trainer = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad, **lorate.for_trainer())
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
    ours = lorate.for_trainer()
    trainer = Trainer(model, settings, train_dataset=texts(), eval_dataset=texts(4), data_collator=pad, **ours)
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
        return Trainer(model, settings, train_dataset=texts(), data_collator=pad, **lorate.for_trainer(monitor=monitor))

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


def test_a_trainer_whose_loss_cannot_be_replayed_is_refused(tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, label_smoothing_factor=0.1))
    trainer = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad, **lorate.for_trainer())
    with pytest.raises(LorateError, match="use rule 'normalized'"):
        trainer.train()


def test_probes_and_signal_reach_the_records(tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, max_steps=25))
    ours = lorate.for_trainer(monitor=tmp_path / "monitor")
    Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad, **ours).train()
    records = read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records
    assert records[0]["probe"] is None
    assert sum(record["probe"] is not None for record in records) > 15
    assert any(record["signal_fraction"] is not None for record in records)
    assert any(record["smoothness"] is not None for record in records)
