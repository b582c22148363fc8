"""One small trainer of every kind that computes its own loss, for LoRA with dropout."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from datasets import Dataset
from test_transformers import WORDS, arguments, language_model, pad, texts, tokenizer
from torch import Tensor
from transformers import LlamaForSequenceClassification, Trainer, TrainingArguments
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
    SFTConfig,
    SFTTrainer,
)

ROWS = 16


def model(**options: Any) -> Any:
    """With dropout, which a replay has to repeat."""
    base = language_model().unload()
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj"]
    config = peft.LoraConfig(r=2, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM", **options)
    return peft.get_peft_model(base, config)


def sentences() -> list[str]:
    return [" ".join(WORDS[i - 4] for i in row["input_ids"]) for row in texts(ROWS)]


def preferences() -> Dataset:
    first, others = sentences(), sentences()[::-1]
    return Dataset.from_dict(
        {"prompt": first, "chosen": [f" {x} w1" for x in others], "rejected": [" w2 w3 w4"] * ROWS}
    )


def plain(path: Path, cls: type[Trainer] = Trainer, options: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    args = TrainingArguments(**arguments(path, per_device_train_batch_size=4, **settings))
    return cls(model(), args, **{"train_dataset": texts(ROWS), "data_collator": pad, **(options or {})})


class WithTerm(Trainer):
    """Adds a term of its own to the model's loss."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, **given)
        loss = loss + 100 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


class WithMemory(Trainer):
    """Keeps tensors of each pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.latest: dict[str, Tensor] = {}
        self.entropies: list[Tensor] = []

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, **given)
        self.latest["logits"] = outputs.logits.detach()
        self.entropies.append(outputs.logits.detach().softmax(-1).log().mean((0, 1)))
        return (loss, outputs) if return_outputs else loss


class WithFeatures(Trainer):
    """Takes what it needs out of inputs that lie inside others."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
        rows = inputs["features"][0]
        labels, ids = rows.pop("labels"), rows.pop("input_ids")
        outputs = model(input_ids=ids, labels=labels)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def in_features(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"input_ids": torch.zeros(len(rows), 1), "features": [pad(rows)]}


def own_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def trl(cls: Any, config: Any, path: Path, data: Dataset, given: dict[str, Any] | None = None, **settings: Any) -> Any:
    args = config(
        **arguments(path, per_device_train_batch_size=4), bf16=False, gradient_checkpointing=False, **settings
    )
    options = {"model": model(), "processing_class": tokenizer(), **(given or {})}
    return cls(args=args, train_dataset=data, **options)


def reward_model() -> Any:
    torch.manual_seed(0)
    config = language_model().config
    config.num_labels = 1
    base = LlamaForSequenceClassification(config)
    targets = ["q_proj", "v_proj"]
    return peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=targets, lora_dropout=0.1, task_type="SEQ_CLS")
    )


def rewards(completions: list[str], **_: object) -> list[float]:
    return [float(place % 3) for place, _ in enumerate(completions)]


def texts_of(path: Path, **settings: Any) -> Any:
    return trl(SFTTrainer, SFTConfig, path, Dataset.from_dict({"text": sentences()}), max_length=32, **settings)


def grpo(path: Path, **settings: Any) -> Any:
    data, given = Dataset.from_dict({"prompt": sentences()}), {"reward_funcs": rewards}
    return trl(GRPOTrainer, GRPOConfig, path, data, given, num_generations=4, max_completion_length=4, **settings)


def kto(path: Path, **settings: Any) -> Any:
    data = {"prompt": sentences(), "completion": [f" {x}" for x in sentences()[::-1]], "label": [True, False] * 8}
    return trl(KTOTrainer, KTOConfig, path, Dataset.from_dict(data), **settings)


def dpo(path: Path, **settings: Any) -> Any:
    return trl(DPOTrainer, DPOConfig, path, preferences(), **settings)


def rloo(path: Path) -> Any:
    data, given = Dataset.from_dict({"prompt": sentences()}), {"reward_funcs": rewards}
    return trl(RLOOTrainer, RLOOConfig, path, data, given, num_generations=4, max_completion_length=4)


def reward(path: Path, **settings: Any) -> Any:
    data = preferences().remove_columns("prompt")
    return trl(RewardTrainer, RewardConfig, path, data, {"model": reward_model()}, **settings)


def experimental(name: str, path: Path, data: Dataset, given: dict[str, Any] | None = None, **settings: Any) -> Any:
    import importlib

    module, name = importlib.import_module(f"trl.experimental.{name.lower()}"), name.replace("_", "")
    return trl(getattr(module, f"{name}Trainer"), getattr(module, f"{name}Config"), path, data, given, **settings)


def teacher(path: Path, name: str) -> Any:
    rows = [
        [{"role": "user", "content": x}, {"role": "assistant", "content": y}]
        for x, y in zip(sentences(), sentences()[::-1], strict=True)
    ]
    words = tokenizer()
    words.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    given = {"teacher_model": language_model().unload(), "processing_class": words}
    return experimental(name, path, Dataset.from_dict({"messages": rows}), given, max_new_tokens=4)


KINDS: dict[str, Callable[[Path], Any]] = {
    "plain": plain,
    "label smoothing": lambda path: plain(path, label_smoothing_factor=0.1),
    "compute_loss_func": lambda path: plain(path, options={"compute_loss_func": own_loss}),
    "a term of its own": lambda path: plain(path, WithTerm),
    "tensors kept": lambda path: plain(path, WithMemory),
    "nested inputs": lambda path: plain(path, WithFeatures, {"data_collator": in_features}),
    "accumulation": lambda path: plain(path, gradient_accumulation_steps=3),
    "neftune": lambda path: plain(path, neftune_noise_alpha=5.0),
    "sft": texts_of,
    "sft, neftune": lambda path: texts_of(path, neftune_noise_alpha=5.0),
    "sft, label smoothing": lambda path: texts_of(path, label_smoothing_factor=0.1),
    "sft, dft": lambda path: texts_of(path, loss_type="dft"),
    "dpo": dpo,
    "dpo, ipo, accumulation": lambda path: dpo(path, loss_type="ipo", gradient_accumulation_steps=2),
    "dpo, precomputed reference": lambda path: dpo(path, precompute_ref_log_probs=True),
    "kto": kto,
    "reward": reward,
    "grpo": grpo,
    "grpo, beta": lambda path: grpo(path, beta=0.1),
    "grpo, accumulation": lambda path: grpo(path, gradient_accumulation_steps=2),
    "rloo": rloo,
    "orpo": lambda path: experimental("ORPO", path, preferences()),
    "cpo": lambda path: experimental("CPO", path, preferences()),
    "gkd": lambda path: teacher(path, "GKD"),
}


def build(kind: str, path: Path) -> Any:
    """A trainer of that kind, not attached yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' and TRL's own deprecations
        return KINDS[kind](path)
