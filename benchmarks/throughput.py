"""Tokens per second of ``lorate train``, over those of TRL's SFTTrainer with AdamW, on the same batches.

Each round trains twice in one process, in random order: ``lorate train`` under its default rule, with its records and
alarms, and the SFTTrainer of TRL with AdamW, on the same model, adapter, tokenised data and options, without
evaluations. A round's time is the median over its steps, the first three left out. A third run is ``lorate train
--packing``. With ``--tiny`` the model is a random Llama of two layers and width 32 with SmolLM2's tokenizer: the less a
pass takes, the larger is lorate's own share of a step.

How to read it: ``ratio`` is lorate's tokens per second over TRL's, median over the rounds, so 0.95 means that the rule
and the records cost a twentieth. ``packing`` is tokens per second with packing over those without, on chats that are
short beside ``--max-length``. On a CPU a step takes as long as it has tokens, so that packing saves the padding alone.
Both are given by the clock, and by the processor time of the process, which depends less
on what else the machine does.

Run: python benchmarks/throughput.py
"""

import argparse
import dataclasses
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from _record import record
from transformers import TrainerCallback

from lorate.extras import require
from lorate.tasks.embedded import SMOLLM2_FILE, package_file, smollm2_path
from lorate.training import Listener, TrainConfig, train
from lorate.training.trainers import assemble

COMMAND = "python benchmarks/throughput.py"
WARM_UP = 3
Step = tuple[float, float, int]
"""Seconds by the clock, of the processor, and tokens of a step."""
CLOCKS = ("wall", "cpu")


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


def tiny(place: Path) -> str:
    """A random Llama of two layers and width 32, with the tokenizer of SmolLM2."""
    transformers = require("transformers", extra="hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_path().parent, gguf_file=SMOLLM2_FILE)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


class Clock(Listener):
    """Both clocks and the tokens until the end of each step of lorate."""

    def __init__(self) -> None:
        self.times: list[Step] = []

    def step(self, record: Mapping[str, Any], total: int) -> None:  # noqa: D102
        self.times.append((time.perf_counter(), time.process_time(), record["tokens"]))


class TrainerClock(TrainerCallback):
    """Both clocks at the end of each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: D102
        self.times.append((time.perf_counter(), time.process_time()))


def with_lorate(config: TrainConfig, place: Path) -> list[Step]:
    """Each step but the first."""
    clock = Clock()
    train(config, place, force=True, listener=clock)
    return [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in pairwise(clock.times)]


def with_trl(config: TrainConfig, place: Path) -> list[Step]:
    """The same of the SFTTrainer."""
    prepared, own = assemble(config)
    clock, counted = TrainerClock(), []
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
    seconds = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(clock.times)]
    return [(*both, tokens) for both, tokens in zip(seconds, counted[1:], strict=False)]


def speed(steps: list[Step]) -> dict[str, float]:
    """Tokens a second at the median time of a step, by both clocks."""
    kept = steps[WARM_UP:]
    tokens = statistics.mean(step[2] for step in kept)
    return {clock: tokens / statistics.median(step[place] for step in kept) for place, clock in enumerate(CLOCKS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or directory (default: the embedded SmolLM2-135M-Instruct)")
    parser.add_argument("--steps", type=int, default=20, help="steps per training (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each (default %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a model of two layers with random weights")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"lorate": [], "trl": [], "packed": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = tiny(place / "tiny") if options.tiny else options.model
        config = TrainConfig(
            model=model, data=chats(place / "chats.jsonl"), steps=options.steps, max_length=256, samples=0,
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
    summary: dict[str, Any] = {}
    for clock in CLOCKS:
        for name, one, other in (("ratio", "lorate", "trl"), ("packing", "packed", "lorate")):
            pairs = zip(found[one], found[other], strict=True)
            summary[f"{name}, {clock}"] = statistics.median(a[clock] / b[clock] for a, b in pairs)
    summary |= {f"{way}, tokens/s": statistics.median(one["wall"] for one in speeds) for way, speeds in found.items()}
    summary |= {"steps": options.steps, "rounds": options.rounds, "tiny": options.tiny}
    record("throughput", COMMAND + " --tiny" * options.tiny, summary, rounds=found)


if __name__ == "__main__":
    main()
