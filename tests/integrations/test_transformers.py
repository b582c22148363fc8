"""The transformers Trainer and TRL's SFTTrainer under our rules."""

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import lorate
from lorate.jsonl import read_jsonl
from training_runs import OWN

WORDS = [f"w{i}" for i in range(28)]


def language_model() -> peft.PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def image_model() -> peft.PeftModel:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    model = ResNetForImageClassification(config)
    model.accepts_loss_kwargs = False
    model.eval()  # batch-norm statistics depend on the batch: freeze them to compare batchings
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["convolution"], modules_to_save=["classifier.1"])
    )
    wrapped.train = lambda mode=True: _train_but_batch_norm(wrapped, mode)  # type: ignore[method-assign]
    return wrapped


def _train_but_batch_norm(model: torch.nn.Module, mode: bool) -> torch.nn.Module:
    torch.nn.Module.train(model, mode)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model


def texts(count: int = 16) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    rows = []
    for _ in range(count):
        length = int(torch.randint(4, 12, (1,), generator=generator))
        ids = torch.randint(4, 32, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": ids, "attention_mask": [1] * length})
    return rows


def images(count: int = 16) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    return [{"pixel_values": torch.randn(1, 16, 16, generator=generator), "labels": i % 3} for i in range(count)]


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def arguments(path: Path, **options: Any) -> dict[str, Any]:
    return {
        "output_dir": str(path), "max_steps": 3, "max_grad_norm": 0, "lr_scheduler_type": "constant",
        "use_cpu": True, "report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
        "per_device_train_batch_size": 8, "seed": 0, **options,
    }  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "<bos>", *WORDS])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def run(kind: str, path: Path, batch: int, accumulate: int, rule: str = "adaptive-loss", **options: Any) -> Any:
    settings = arguments(path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' and TRL's own deprecations
        if kind == "sft":
            rows = [{"text": " ".join(WORDS[i - 4] for i in row["input_ids"])} for row in texts()]
            config = SFTConfig(**settings, bf16=False, gradient_checkpointing=False, max_length=32)
            data = Dataset.from_list(rows)
            trainer = SFTTrainer(language_model(), config, train_dataset=data, processing_class=tokenizer())
        elif kind == "images":
            trainer = Trainer(image_model(), TrainingArguments(**settings), train_dataset=images())
        else:
            trainer = Trainer(language_model(), TrainingArguments(**settings), train_dataset=texts(), data_collator=pad)
        lorate.attach(trainer, rule, monitor=path / "monitor", **options)
        trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["texts", "images", "sft"])
def test_accumulated_micro_batches_equal_one_batch(kind: str, tmp_path: Path) -> None:
    run(kind, tmp_path / "whole", 8, 1)
    run(kind, tmp_path / "pieces", 1, 8)
    whole = read_jsonl(tmp_path / "whole" / "monitor" / "metrics.jsonl").records
    pieces = read_jsonl(tmp_path / "pieces" / "monitor" / "metrics.jsonl").records
    assert len(whole) == len(pieces) == 3
    for one, other in zip(whole, pieces, strict=True):
        for name in ("loss", "eta", "grad_norm", "stacked_norm"):
            assert one[name] == pytest.approx(other[name], rel=2e-5), (one["step"], name)
        assert one["samples"] == other["samples"] and one["tokens"] == other["tokens"]
    assert whole[-1]["samples"] == 24
    assert (whole[-1]["tokens"] > 0) == (kind != "images")


@pytest.mark.parametrize("kind", ["texts", "images", "sft"])
def test_the_loss_is_the_one_that_is_trained_on(kind: str, tmp_path: Path) -> None:
    trainer = run(kind, tmp_path, 8, 2)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    ours = [record["loss"] for record in read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records]
    assert ours == pytest.approx(logged, abs=1e-4)


def test_step_size_and_norms_reach_the_trainers_log(tmp_path: Path) -> None:
    trainer = run("texts", tmp_path, 8, 1)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    records = read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records
    for entry, record in zip(entries, records, strict=True):
        assert {name: entry[name] for name in ("eta", "stacked_norm", "grad_norm")} == {
            name: record[name] for name in ("eta", "stacked_norm", "grad_norm")
        }


@pytest.mark.parametrize("rule", ["adaptive", "normalized", "constant"])
def test_other_rules_run_too(rule: str, tmp_path: Path) -> None:
    trainer = run("texts", tmp_path, 4, 2, rule, lr=0.1)
    assert trainer.optimizer.optimizer.last.number == 3
    record = read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records[-1]
    assert (record["weight_grad_norm"] is not None) == (rule == "adaptive")


def test_settings_that_never_arrive_are_told(tmp_path: Path) -> None:
    settings = TrainingArguments(**arguments(tmp_path, learning_rate=1e-3, optim="adamw_8bit", adam_beta2=0.95))
    for rule, why in (("normalized", "is lr= of lorate.attach"), ("auto", "finds its step sizes and its direction")):
        trainer = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad)
        with pytest.warns(UserWarning, match=f"take learning_rate, adam_beta2, optim from Training.*{rule}.*{why}"):
            lorate.attach(trainer, rule)


def test_resume_from_a_checkpoint_gives_the_same_numbers(tmp_path: Path) -> None:
    def trainer(path: Path, steps: int, monitor: lorate.Monitor) -> Trainer:
        settings = TrainingArguments(**arguments(path, max_steps=steps, save_strategy="steps", save_steps=3))
        own = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad)
        return lorate.attach(own, "adaptive-loss", monitor=monitor)

    whole = lorate.Monitor(tmp_path / "whole")
    trainer(tmp_path / "a", 6, whole).train()
    trainer(tmp_path / "b", 3, lorate.Monitor(tmp_path / "halves")).train()
    rest = lorate.Monitor(tmp_path / "halves", resume_at=3)
    trainer(tmp_path / "b", 6, rest).train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-3"))
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "halves")
    ]
    for one, other in zip(*lines, strict=True):
        assert one | OWN == other | OWN


def test_the_guilty_gradient_is_named_though_the_trainer_spreads_it(tmp_path: Path) -> None:
    model = language_model()
    guilty = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight"
    steps = []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        steps.append(len(steps) + 1)
        return gradient * float("inf") if len(steps) == 2 else gradient

    dict(model.named_parameters())[guilty].register_hook(poison)
    settings = TrainingArguments(**arguments(tmp_path))
    trainer = lorate.attach(
        Trainer(model, settings, train_dataset=texts(), data_collator=pad), "normalized", monitor=tmp_path / "monitor"
    )
    with pytest.warns(UserWarning, match="Step 2 was skipped"):
        trainer.train()
    skipped = [record["skipped"] for record in read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records]
    assert skipped == [None, f"the gradient of {guilty} is not finite (1 of 8 parameters)", None]


@pytest.mark.parametrize("rule", ["adaptive", "adaptive-loss", "auto"])
def test_the_loss_scale_of_float16_training_is_taken_out_and_overflows_are_told(rule: str, tmp_path: Path) -> None:
    """Float16 itself needs a GPU; its loss scale does not."""
    found = {}
    for name, scaler in (
        ("plain", None),
        ("scaled", torch.amp.GradScaler("cpu", init_scale=3000.0, growth_interval=2)),
    ):
        monitor = lorate.Monitor(tmp_path / name / "monitor")
        settings = TrainingArguments(**arguments(tmp_path / name))
        own = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad)
        trainer = lorate.attach(own, rule, monitor=monitor)
        trainer.accelerator.scaler = scaler
        trainer.train()
        found[name] = read_jsonl(tmp_path / name / "monitor" / "metrics.jsonl").records
    assert len(found["scaled"]) == 3
    for one, other in zip(found["plain"], found["scaled"], strict=True):
        for key in ("loss", "eta", "grad_norm", "weight_grad_norm"):
            assert one[key] == (None if other[key] is None else pytest.approx(other[key], rel=1e-4)), key

    settings = TrainingArguments(**arguments(tmp_path / "overflow"))
    trainer = lorate.attach(
        Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad),
        rule,
        monitor=tmp_path / "overflow" / "monitor",
    )
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    with pytest.warns(UserWarning, match="Step 1 was skipped"):
        trainer.train()
    records = read_jsonl(tmp_path / "overflow" / "monitor" / "metrics.jsonl").records
    assert [record["step"] for record in records] == [1, 2, 3]
    assert [record["skipped"] is None for record in records] == [False, True, True]
    assert [record["samples"] for record in records] == [8, 16, 24]
