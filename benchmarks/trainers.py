"""Rule ``auto`` in TRL's trainers, against the best of eight learning rates of AdamW.

A tiny language model is to prefer words with even numbers; a fifth of the preferences are the wrong way round, so that
the best held-out loss of DPO and of a reward model is 0.5, not 0. Sixty steps of 8 pairs (GRPO: 40 steps of 2
prompts with 8 or 16 completions each), one pass over the data, then the loss on 128 pairs that were not seen (GRPO:
the mean reward of 256 completions). AdamW runs with each of eight rates, warmed up over a tenth of the steps and then a
cosine to zero, gradients clipped at 1 as the Trainer does; ``auto`` runs once, with nothing but
``lorate.attach(trainer)``.

``worse`` is how far ``auto`` ends above the best loss of that seed, as a share of it (GRPO: how much of the best gain
in reward is missing); the summary has its mean over the seeds, which draw other data, with its standard error. The
constants of ``auto`` were chosen on seeds 1 to 10.

Run: OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/trainers.py
"""

import argparse
import math
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import peft
import torch
import trl
from _record import record
from _rows import change_rows, kept_rows
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    PrinterCallback,
)
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import lorate
from lorate_papers.training.measures import mean_and_error

COMMAND = "OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/trainers.py"
RATES = tuple(10.0 ** (k / 2) for k in range(-8, 0))
WORDS = [f"w{i}" for i in range(28)]
STEPS, SIZE, HELD_OUT, WRONG = 60, 8, 128, 0.2
GRPO_STEPS, LENGTH = 40, 6
COMPLETIONS = {"grpo": 8, "grpo-16": 16}
"""Of a prompt, in the tasks that earn a reward."""
TASKS = ("dpo", "reward", "kto", "orpo", *COMPLETIONS)
SEEDS = (0, 21, 22, 23, 24)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "<bos>", *WORDS])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def model(task: str) -> Any:
    """Random weights with LoRA on every linear layer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, initializer_range=0.1,
        num_labels=1,
    )  # fmt: skip
    kind, task_type = (
        (LlamaForSequenceClassification, "SEQ_CLS") if task == "reward" else (LlamaForCausalLM, "CAUSAL_LM")
    )
    return peft.get_peft_model(kind(config), peft.LoraConfig(r=8, target_modules="all-linear", task_type=task_type))


def some_words(count: int, parity: int | None, generator: torch.Generator) -> str:
    """Random ones, all with even numbers (0) or odd ones (1)."""
    numbers = torch.randint(len(WORDS) // 2, (count,), generator=generator) * 2
    odd = torch.randint(2, (count,), generator=generator) if parity is None else torch.tensor(parity)
    return " ".join(WORDS[int(i)] for i in numbers + odd)


def pairs(count: int, seed: int) -> Dataset:
    """Prompts with a chosen and a rejected completion."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        right, wrong = (" " + some_words(4, parity, generator) for parity in (0, 1))
        if torch.rand((), generator=generator) < WRONG:
            right, wrong = wrong, right
        found.append({"prompt": some_words(4, None, generator), "chosen": right, "rejected": wrong})
    return Dataset.from_list(found)


def data(task: str, count: int, seed: int) -> Dataset:
    """In the form that a trainer wants."""
    rows = pairs(count, seed)
    if task == "reward":
        return rows.map(lambda row: {k: row["prompt"] + row[k] for k in ("chosen", "rejected")}).remove_columns(
            "prompt"
        )
    if task in COMPLETIONS:
        return rows.select_columns("prompt")
    if task == "kto":
        both = [
            {"prompt": row["prompt"], "completion": row[key], "label": key == "chosen"}
            for row in rows
            for key in ("chosen", "rejected")
        ]
        order = torch.randperm(len(both), generator=torch.Generator().manual_seed(seed)).tolist()
        return Dataset.from_list([both[i] for i in order][:count])
    return rows


def share_of_even_words(completion_ids: list[list[int]], **_: object) -> list[float]:
    """The reward."""
    return [sum(i >= 4 and i % 2 == 0 for i in ids) / LENGTH for ids in completion_ids]


def trainer(task: str, folder: str, seed: int, rate: float | None) -> Any:
    """A Trainer with AdamW at a rate, or with its defaults."""
    kinds = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
        "orpo": (ORPOTrainer, ORPOConfig),
        **dict.fromkeys(COMPLETIONS, (trl.GRPOTrainer, trl.GRPOConfig)),
    }
    kind, config = kinds[task]
    steps = GRPO_STEPS if task in COMPLETIONS else STEPS
    settings: dict[str, Any] = {
        "output_dir": folder, "max_steps": steps, "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "disable_tqdm": True, "logging_steps": steps, "per_device_train_batch_size": SIZE, "bf16": False,
        "gradient_checkpointing": False, "seed": seed, "data_seed": seed,
        "per_device_eval_batch_size": 16,
    }  # fmt: skip
    if rate is not None:
        settings |= {"learning_rate": rate, "lr_scheduler_type": "cosine", "warmup_steps": steps // 10}
    options: dict[str, Any] = {"processing_class": tokenizer(), "train_dataset": data(task, steps * SIZE, 10 + seed)}
    if task in COMPLETIONS:
        number = COMPLETIONS[task]
        settings |= {"per_device_train_batch_size": 2 * number, "num_generations": number}
        settings |= {"max_completion_length": LENGTH}
        options |= {"reward_funcs": share_of_even_words}
    else:
        options |= {"eval_dataset": data(task, HELD_OUT, 999)}
    found = kind(model(task), args=config(**settings), **options)
    found.remove_callback(PrinterCallback)
    return found


def result(task: str, made: Any) -> float:
    """Held-out loss; for GRPO the mean reward."""
    if task not in COMPLETIONS:
        return float(made.evaluate()["eval_loss"])
    words, own = tokenizer(), made.model.eval()
    prompts = words(list(data(task, 64, 999)["prompt"]), return_tensors="pt", padding=True)
    torch.manual_seed(5)
    with torch.no_grad():
        found = own.generate(
            prompts["input_ids"].repeat(4, 1), attention_mask=prompts["attention_mask"].repeat(4, 1), do_sample=True,
            max_new_tokens=LENGTH, top_k=0, use_cache=True,
        )  # fmt: skip
    ids = found[:, prompts["input_ids"].shape[1] :].tolist()
    return sum(share_of_even_words(ids)) / len(ids)


def end(task: str, seed: int, rate: float | None, *, attach: bool = False) -> float:
    """What a run ends with."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trainer(task, folder, seed, rate)
        if attach:
            lorate.attach(made)
        if attach or rate is not None:
            made.train()
        return result(task, made)


def compare(task: str, seed: int) -> dict[str, Any]:
    """One row of the table."""
    start = end(task, seed, None)
    ends = {rate: end(task, seed, rate) for rate in RATES}
    finite = [rate for rate in RATES if math.isfinite(ends[rate])]
    best = (max if task in COMPLETIONS else min)(finite, key=ends.__getitem__)
    row = {"plan": [task, seed], "start": start, "best_rate": best, "best": ends[best]}
    return {**row, **auto_again(row), "ends": list(ends.values())}


def auto_again(row: dict[str, Any]) -> dict[str, Any]:
    """What changes in a row with ``auto``."""
    task, seed = row["plan"]
    auto = end(task, seed, None, attach=True)
    worse = (row["best"] - auto) / (row["best"] - row["start"]) if task in COMPLETIONS else auto / row["best"] - 1
    return {"auto": auto, "worse": worse}


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=TASKS, help="these tasks, without a record")
    parser.add_argument("--auto-again", action="store_true", help="repeat the runs of auto only, after it was changed")
    parser.add_argument("--so-far", action="store_true", help="record the tasks that were run")
    args = parser.parse_args()
    if args.auto_again:
        change_rows("trainers", auto_again)
    only = args.only
    if only:
        for task in only:
            print(compare(task, 0))
        return
    plan = [(task, seed) for seed in SEEDS for task in TASKS]
    found = kept_rows("trainers", plan, compare, more=not args.so_far)
    record("trainers", COMMAND, summary(found))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of ``worse`` over the seeds, its standard error, the worst seed, and their number, by task."""
    found: dict[str, float] = {}
    for task in TASKS:
        worse = [row["worse"] for row in rows if row["plan"][0] == task]
        if worse:
            mean, error = mean_and_error(worse)
            found |= {f"{task}_worse": mean, f"{task}_error": error, f"{task}_worst": max(worse)}
            found[f"{task}_seeds"] = len(worse)
    return found


if __name__ == "__main__":
    main()
