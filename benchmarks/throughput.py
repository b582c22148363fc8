"""Tokens a second of ``lorate train``, over those of TRL's SFTTrainer with AdamW, on the same batches.

Each round trains twice in one process, in random order: ``lorate train`` under its default rule, with its records and
alarms, and the SFTTrainer of TRL with AdamW, on the same model, adapter, tokenised data and options, without
evaluations. A round's time is the median over its steps, the first three left out. A third run is ``lorate train
--packing``.

How to read it: ``ratio`` is the median over rounds of lorate's tokens a second over TRL's, so 0.95 means that the rule
and the records cost a twentieth. ``packing`` is tokens a second with packing over those without, on chats that are
short beside ``--max-length``.

Run: python benchmarks/throughput.py
"""

import argparse
import dataclasses
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _record import record
from transformers import TrainerCallback

from lorate.jsonl import read_jsonl
from lorate.tasks.embedded import package_file
from lorate.training import TrainConfig, train
from lorate.training.trainers import assemble

COMMAND = "python benchmarks/throughput.py"
WARM_UP = 3
Step = tuple[float, int]


def chats(file: Path, count: int = 200) -> str:
    """Short chats of one turn each, from the Chit-Chat Challenge."""
    place = package_file("chitchat_dataset", "dataset.json", "pip install --no-deps chitchat-dataset")
    turns = [one["messages"][:2] for one in json.loads(place.read_text(encoding="utf-8")).values()]
    pairs = [[" ".join(part["text"] for part in turn) for turn in pair] for pair in turns if len(pair) == 2][:count]
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: D102
        self.times.append(time.perf_counter())


def with_lorate(config: TrainConfig, place: Path) -> list[Step]:
    """Seconds and tokens of each step, as the run recorded them."""
    train(config, place, force=True)
    records = read_jsonl(place / "metrics.jsonl").records
    pairs = itertools.pairwise(records)
    return [(b["seconds"] - a["seconds"], b["tokens"] - a["tokens"]) for a, b in pairs]


def with_trl(config: TrainConfig, place: Path) -> list[Step]:
    """Seconds of each step of the SFTTrainer, and its tokens."""
    prepared, own = assemble(config)
    clock, counted = Clock(), []
    args = dataclasses.replace(own.args, output_dir=str(place), optim="adamw_torch", learning_rate=2e-4)
    trainer = type(own)(
        model=prepared.model,
        args=args,
        train_dataset=own.train_dataset,
        processing_class=prepared.base.processor,
        callbacks=[clock],
    )
    collate = trainer.data_collator

    def counting(rows: list[Any]) -> Any:
        batch = collate(rows)
        mask = batch.get("attention_mask")
        counted.append(batch["input_ids"].numel() if mask is None else int(mask.sum()))
        return batch

    trainer.data_collator = counting
    trainer.train()
    seconds = [b - a for a, b in itertools.pairwise(clock.times)]
    return list(zip(seconds, counted, strict=False))[1:]


def speed(steps: list[Step]) -> float:
    """Tokens a second at the median time of a step."""
    kept = steps[WARM_UP:]
    return sum(tokens for _, tokens in kept) / len(kept) / statistics.median(seconds for seconds, _ in kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for lorate train")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"lorate": [], "trl": [], "packed": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = TrainConfig(
            model=options.model, data=chats(place / "chats.jsonl"), steps=options.steps, max_length=256, samples=0,
            eval_examples=2, eval_every=options.steps, save_every=options.steps, keep="last",
        )  # fmt: skip
        ways: dict[str, Callable[[], list[Step]]] = {
            "lorate": lambda: with_lorate(config, place / "lorate"),
            "trl": lambda: with_trl(config, place / "trl"),
            "packed": lambda: with_lorate(dataclasses.replace(config, packing=True), place / "packed"),
        }
        for _ in range(options.rounds):
            for way in random.sample(list(ways), len(ways)):
                found[way].append(speed(ways[way]()))
                print(way, found[way][-1], flush=True)
    ratios = [own / other for own, other in zip(found["lorate"], found["trl"], strict=True)]
    packing = [own / other for own, other in zip(found["packed"], found["lorate"], strict=True)]
    summary = {
        "ratio": statistics.median(ratios),
        "packing": statistics.median(packing),
        **{f"{way} tokens/s": statistics.median(speeds) for way, speeds in found.items()},
        "steps": options.steps,
        "rounds": options.rounds,
    }
    record("throughput", COMMAND, summary, rounds=found)


if __name__ == "__main__":
    main()
