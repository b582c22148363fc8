"""Which layers to adapt by default: the architecture's usual ones, or all linear layers.

The small language model of the experiments, a byte-level Llama that has read chat, is fine-tuned on Python code under
the default rule. The forms differ in the layers and the rank alone and see the same batches: ``q_proj`` and
``v_proj`` (PEFT's table for this architecture) at rank 8, all linear layers at rank 8, and all linear layers at rank
2, which has about as many parameters as the first. With ``--smollm2`` SmolLM2-135M on the problems of HumanEval is
added, by ``lorate train``.

How to read it: ``gain`` is by how much the held-out loss ends below that of the first form after equally many steps,
as a part of it, mean over the seeds; ``worst`` is the least of the seeds; ``time`` is the time of a step over that of
the first form.

Run: python benchmarks/targets.py
"""

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from _record import record

import lorate
from lorate.jsonl import read_jsonl
from lorate.training import TrainConfig, train
from lorate_papers.workloads.small_lm import load
from lorate_papers.workloads.workload import AdapterSpec

COMMAND = "python benchmarks/targets.py"
USUAL = ("q_proj", "v_proj")
LINEAR = (*USUAL, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FORMS = {"usual r8": (USUAL, 8), "all-linear r8": (LINEAR, 8), "all-linear r2": (LINEAR, 2)}
Result = dict[str, float]


def small(targets: tuple[str, ...], rank: int, steps: int, seed: int) -> Result:
    """Held-out loss of the small language model before and after, time of a step, parameters."""
    work = replace(load(quick=True), targets=targets)
    model = work.model(AdapterSpec(rank, 2.0 * rank), seed)
    optimizer, batches, times = lorate.create_optimizer(model), work.batches(8, seed), []
    before = work.validation_loss(model)
    for _ in range(steps):
        start, batch = time.perf_counter(), next(batches)

        def closure(batch: Any = batch) -> Any:
            loss = work.loss(model, batch)
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
        times.append(time.perf_counter() - start)
    optimizer.finish()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    after = work.validation_loss(model)
    return {"before": before, "after": after, "step": statistics.median(times), "parameters": parameters}


def smollm2(targets: tuple[str, ...], rank: int, steps: int, seed: int) -> Result:
    """The same of SmolLM2-135M."""
    config = TrainConfig(
        targets=list(targets), rank=rank, alpha=2.0 * rank, steps=steps, seed=seed, max_length=128, samples=0,
        eval_every=steps, keep="last", save_every=steps,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        outcome = train(config, Path(place) / "run")
        seconds = [entry["seconds"] for entry in read_jsonl(outcome.run.metrics).records]
        parameters = outcome.run.read_run()["model"]["trainable"]
    assert outcome.change is not None
    step = statistics.median(b - a for a, b in itertools.pairwise(seconds))
    return {"before": outcome.change.before, "after": outcome.change.after, "step": step, "parameters": parameters}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="steps per run (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each form (default %(default)s)")
    parser.add_argument("--smollm2", action="store_true", help="add SmolLM2-135M; some minutes per run")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for task in (small, smollm2) if options.smollm2 else (small,):
        for seed in range(options.seeds):
            for form, (targets, rank) in FORMS.items():
                rows.append(
                    {"task": task.__name__, "seed": seed, "form": form, **task(targets, rank, options.steps, seed)}
                )
                print(rows[-1], flush=True)
    summary: dict[str, Any] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        first, *others = ([row for row in rows if (row["task"], row["form"]) == (task, form)] for form in FORMS)
        summary[f"{task} usual r8, parameters"] = first[0]["parameters"]
        for form, own in zip(list(FORMS)[1:], others, strict=True):
            gains = [1 - b["after"] / a["after"] for a, b in zip(first, own, strict=True)]
            summary[f"{task} {form}, gain"] = statistics.mean(gains)
            summary[f"{task} {form}, worst"] = min(gains)
            summary[f"{task} {form}, time"] = statistics.median(
                b["step"] / a["step"] for a, b in zip(first, own, strict=True)
            )
            summary[f"{task} {form}, parameters"] = own[0]["parameters"]
    record("targets", COMMAND, summary | {"steps": options.steps, "seeds": options.seeds}, rows=rows)


if __name__ == "__main__":
    main()
