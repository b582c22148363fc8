"""Trainers whose loss is not what the model returns: DPO, GRPO, terms of one's own."""

import warnings
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from test_transformers import arguments, language_model, pad, texts, tokenizer
from transformers import Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

import lorate
from lorate.errors import LorateError
from lorate.integrations.transformers import LorateCallback


def preference_trainer(kind: str, path: Path, monitor: lorate.Monitor, rule: str, **options: float) -> Trainer:
    model = language_model()
    ours = {
        "optimizers": (lorate.create_optimizer(model, rule, **options), None),
        "callbacks": [LorateCallback(monitor)],
        "processing_class": tokenizer(),
    }
    settings = arguments(path, max_steps=2, bf16=False, gradient_checkpointing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' and TRL's own deprecations
        if kind == "dpo":
            rows = [{"prompt": "one two", "chosen": " three", "rejected": " four"}] * 8
            return DPOTrainer(model, args=DPOConfig(**settings), train_dataset=Dataset.from_list(rows), **ours)
        size = settings["per_device_train_batch_size"]
        own = GRPOConfig(**settings, num_generations=size, max_completion_length=4)
        data = Dataset.from_list([{"prompt": "one two"}] * 8)
        return GRPOTrainer(model, reward_funcs=different, args=own, train_dataset=data, **ours)


def different(completions: list[str], **_: object) -> list[float]:
    return [float(place) for place, _ in enumerate(completions)]


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
@pytest.mark.parametrize(("rule", "options"), [("auto", {}), ("adaptive-loss", {"lr": 1.0})])
@pytest.mark.filterwarnings("ignore")
def test_a_rule_that_needs_the_loss_is_refused(kind, rule, options, tmp_path: Path):
    trainer = preference_trainer(kind, tmp_path, lorate.Monitor(), rule, **options)
    before = {name: p.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    with pytest.raises(LorateError, match=r"DPO, GRPO.*use rule 'normalized'"):
        trainer.train()
    assert all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters() if n in before)


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
@pytest.mark.filterwarnings("ignore")
def test_other_rules_run_and_record_no_loss(kind, tmp_path: Path):
    monitor = lorate.Monitor(tmp_path / "monitor")
    preference_trainer(kind, tmp_path, monitor, "normalized", lr=0.01).train()
    assert monitor.record is not None
    assert monitor.record["step"] == 2 and monitor.record["loss"] is None
    assert monitor.record["eta"] > 0 and monitor.record["tokens"] > 0


class Penalised(Trainer):
    """Adds a term of its own to the model's loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = loss + 100 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("rule", ["auto", "adaptive-loss"])
def test_a_term_that_the_model_does_not_return_is_noticed(rule, tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, logging_steps=500))
    trainer = lorate.attach(Penalised(language_model(), settings, train_dataset=texts(), data_collator=pad), rule)
    with pytest.raises(LorateError, match=r"the loss read at the model is .* rule '.*' needs that loss"):
        trainer.train()


def test_other_rules_are_warned_and_go_on_without_it(tmp_path: Path):
    settings = TrainingArguments(**arguments(tmp_path, max_steps=3))
    trainer = lorate.attach(
        Penalised(language_model(), settings, train_dataset=texts(), data_collator=pad),
        "normalized",
        lr=0.01,
        monitor=tmp_path / "monitor",
    )
    with pytest.warns(UserWarning, match="lorate records no loss from here on"):
        trainer.train()
    monitor = ours["callbacks"][0].monitor
    assert monitor.record["step"] == 3 and monitor.record["loss"] is None
