"""A plausible run directory, made of formulas and a seeded random generator."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lorate.jsonl import JsonlWriter
from lorate.runs import RunDirectory

MODULES = ("self_attn.q_proj", "self_attn.v_proj")

BEFORE = """    # Your code here
    pass

# Example usage:
print(has_close_elements([1.0, 2.0, 3.0], 0.5))
"""
AFTER = """    for i, first in enumerate(numbers):
        for second in numbers[i + 1:]:
            if abs(first - second) < threshold:
                return True
    return False
"""


def layer_names(blocks: int = 30) -> list[str]:
    return [f"base_model.model.model.layers.{i}.{module}" for i in range(blocks) for module in MODULES]


def step_record(step: int, rng: np.random.Generator, speed: float = 1.0, **changes: Any) -> dict[str, Any]:
    done = 1 - math.exp(-speed * step / 25)
    a, b = 9.6 + 0.2 * done, 1.4 * done
    stacked = math.hypot(a, b)
    loss = 2.05 - 0.28 * done + 0.11 * rng.standard_normal()
    record = {
        "step": step,
        "loss": loss,
        "eta": 1.0 / (stacked**2 + math.sqrt(max(loss, 0.0))),
        "lr": 1.0,
        "stacked_norm": stacked,
        "a_norm": a,
        "b_norm": b,
        "grad_norm": 3.1 * math.exp(-1.2 * done) * math.exp(0.15 * rng.standard_normal()),
        "scaled_stacked_norm": 2 * stacked,
        "scaled_grad_norm": 1.0,
        "weight_grad_norm": None,
        "sum_eta": 0.01 * step,
        "samples": 4 * step,
        "tokens": 512 * step,
        "seconds": 4.1 * step,
        "skipped": None,
        "alarms": [],
    }
    return record | changes


def run_info(rule: str = "adaptive-loss", steps: int = 40, **changes: Any) -> dict[str, Any]:
    info: dict[str, Any] = {
        "lorate": "0.1.0",
        "command": f"lorate train --rule {rule} --lr 1.0 --rank 8 --alpha 16 --steps {steps} --batch-size 4 "
        f"--seed 0 --output runs/{rule}",
        "status": "finished",
        "started": "2026-01-15T10:30:00+00:00",
        "finished": "2026-01-15T10:33:12+00:00",
        "seconds": 192.4,
        "versions": {"python": "3.12.4", "torch": "2.13.0", "transformers": "5.1.0", "peft": "0.18.1"},
        "device": "cpu",
        "config": {
            "model": "SmolLM2-135M-Instruct", "rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj"], "rule": rule,
            "lr": 1.0, "batch_size": 4, "accumulate": 1, "steps": steps, "seed": 0,
        },
        "model": {"name": "SmolLM2-135M-Instruct", "kind": "causal-lm", "parameters": 134_975_808,
                  "trainable": 460_800},
        "data": {"name": "HumanEval solutions", "train": 131, "eval": 33},
        "rule": {"name": rule, "lr": 1.0, "formula": "η = lr / (Σ s‖V‖² + √Loss), for each layer η / s"},
        "result": {
            "eval_before": 2.0, "eval_after": 1.838, "eval_change": -0.081, "eval_change_se": 0.032,
            "eval_examples": 33,
        },
    }  # fmt: skip
    return info | changes


def write_run(
    path: Path,
    rule: str = "adaptive-loss",
    steps: int = 40,
    seed: int = 0,
    speed: float = 1.0,
    layers: bool = True,
    **info: Any,
) -> RunDirectory:
    """A finished 40-step run with 60 layers; keyword arguments replace entries of run.json."""
    rng = np.random.default_rng(seed)
    run = RunDirectory.create(path)
    run.write_run(run_info(rule, steps, **info))
    with JsonlWriter(run.metrics) as metrics:
        for step in range(1, steps + 1):
            metrics.write(step_record(step, rng, speed))
    result = run.read_run()["result"] or {"eval_before": 2.0, "eval_after": 1.8}
    before, after = result["eval_before"], result["eval_after"]
    with JsonlWriter(run.evaluations) as evaluations:
        for step in (0, steps // 2, steps):
            loss = before + (after - before) * (1 - math.exp(-step / 25)) / (1 - math.exp(-steps / 25))
            evaluations.write({"step": step, "eval_loss": loss, "eval_loss_se": 0.05})
    if layers:
        write_layers(run, steps, rng)
    samples = [
        {"prompt": "def has_close_elements(numbers, threshold):\n", "before": BEFORE, "after": AFTER},
        {"prompt": "def strlen(string):\n", "before": "    return len(string)\n", "after": "    return len(string)\n"},
    ]
    run.samples.write_text(json.dumps(samples), encoding="utf-8")
    return run


def write_layers(run: RunDirectory, steps: int, rng: np.random.Generator, names: list[str] | None = None) -> None:
    names = layer_names() if names is None else names
    size = np.exp(0.4 * rng.standard_normal(len(names))) * np.linspace(0.5, 1.5, len(names))
    with JsonlWriter(run.layers) as layers:
        layers.write({"names": names, "scaling": [2.0] * len(names)})
        for step in sorted({1, *range(10, steps + 1, 10), steps}):
            done = 1 - math.exp(-step / 25)
            layers.write(
                {
                    "step": step,
                    "a_norm": (1.24 + 0.02 * size * done).tolist(),
                    "b_norm": (0.18 * size * done).tolist(),
                    "grad_norm": (0.4 * size * np.exp(-done) * np.exp(0.2 * rng.standard_normal(len(names)))).tolist(),
                }
            )


DIVERGING = {
    "kind": "diverging",
    "message": "The loss has been above twice its lowest smoothed value for 5 steps.",
    "remedy": "Lower --lr, for example to a third, and run again.",
}
NON_FINITE = {
    "kind": "non-finite",
    "message": "The gradient holds a value that is not finite; the step was skipped.",
    "remedy": "Lower --lr, or train in float32 instead of float16.",
}
GROWING = {
    "kind": "growing",
    "message": "‖V‖ has grown by more than half over the last 10 steps.",
    "remedy": "Add weight decay, or use a rule that divides by ‖V‖².",
}


def write_troubled_run(path: Path, layers: bool = True, **info: Any) -> RunDirectory:
    """A constant step size that is too large: alarms of three kinds, two skipped steps, a risen held-out loss."""
    result = {"eval_before": 2.0, "eval_after": 5.31, "eval_change": 1.65, "eval_change_se": 0.2, "eval_examples": 33}
    run = write_run(path, "constant", seed=3, layers=layers, **{"result": result, **info})
    rng = np.random.default_rng(4)
    run.metrics.unlink()
    with JsonlWriter(run.metrics) as metrics:
        for step in range(1, 41):
            changes: dict[str, Any] = {"eta": 0.3, "alarms": []}
            if step > 14:
                growth = math.exp((step - 14) / 6)
                changes |= {"loss": 1.9 + 0.2 * growth, "stacked_norm": 9.7 + growth, "b_norm": 1 + 0.9 * growth}
                changes["grad_norm"] = 2 * growth
            if 20 <= step <= 24:
                changes["alarms"].append(GROWING)
            if step >= 25:
                changes["alarms"].append(DIVERGING)
            if step in (31, 36):
                changes |= {"loss": None, "grad_norm": None, "eta": None, "skipped": "the gradient is not finite"}
                changes["alarms"].append(NON_FINITE)
            metrics.write(step_record(step, rng, **changes))
    return run


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }} \x00\ud800"


def write_hostile_run(folder: Path) -> RunDirectory:
    """A run whose every word tries to be more than a word."""
    info = {
        key: {"name": HOSTILE, "lr": HOSTILE, "formula": HOSTILE, "kind": HOSTILE} for key in ("model", "data", "rule")
    } | {key: HOSTILE for key in ("command", "device", "status", "started", "lorate")}
    run = write_run(folder / "<script>alert(3)<", **info, versions={HOSTILE: HOSTILE}, config={HOSTILE: [HOSTILE]})
    run.samples.write_text(json.dumps([dict.fromkeys(("prompt", "before", "after"), HOSTILE)]))
    run.layers.unlink()
    write_layers(run, 40, np.random.default_rng(0), [f"{HOSTILE}{i}" for i in range(5)])
    alarm = dict.fromkeys(("kind", "message", "remedy"), HOSTILE)
    with JsonlWriter(run.metrics) as metrics:
        metrics.write({"step": 41, "loss": 1.0, "skipped": HOSTILE, "alarms": [alarm]})
    return run
