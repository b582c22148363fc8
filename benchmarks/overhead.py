"""What a rule costs: a LoRA step under it against the same step with torch.optim.SGD, side by side.

Two models: SmolLM2-135M (LoRA on q and v) and a stack of two 4096-wide linear layers. In each round every method takes
one step, in random order, so that a noisy machine disturbs all alike; the ratio of a round is the method's time over
SGD's in that round. Reported are the median ratio and its quartiles.

Memory is the peak resident size of a child process that runs one method alone on the stack, over that of one that runs
SGD: median of several rounds, with all sizes beside it. glibc is told to give freed blocks back at once. By default it
keeps some of them, which ones depends on the timing of threads, and the same method's peak then differs by 6% from
process to process.

How to read it: ``overhead`` and ``memory`` are ratios to SGD, so 1.02 is 2% slower or 2% larger. ``exact`` and
``sketch`` are the two ways to measure the frozen weights' gradient; ``autograd`` would let torch compute it.

Run: python benchmarks/overhead.py
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import peft
import torch
from _record import record
from torch import Tensor, nn

import lorate
from lorate.adapters import factor_blocks, find_pairs
from lorate.geometry import displacement_gram
from lorate.gradient_norm import GradientCapture

COMMAND = "python benchmarks/overhead.py"
RULES: dict[str, dict[str, Any]] = {
    "constant": {"rule": "constant", "lr": 1e-3},
    "adaptive_loss": {"rule": "adaptive-loss"},
    "normalized": {"rule": "normalized", "lr": 1e-3},
    "sketch": {"rule": "adaptive", "gradient_norm": "sketch"},
    "sharp_sketch": {"rule": "sharp", "gradient_norm": "sketch", "smoothness": 1e3},
    "exact": {"rule": "adaptive", "gradient_norm": "exact"},
}
METHODS = ("sgd", "sgd_geometry", "autograd", *RULES)


class Step:
    """One training step of a model under a method, with everything that is switched on only for it."""

    def __init__(self, model: nn.Module, loss_of: Callable[[], Tensor], method: str) -> None:
        self.model, self.loss_of, self.method = model, loss_of, method
        self.hooks: Any = None
        if method in RULES:
            self.optimizer: Any = lorate.create_optimizer(model, **RULES[method])
            self.hooks = self.optimizer.weight_gradient
            if self.hooks is not None:
                self.hooks.remove()
        else:
            self.optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        self.frozen = [pair.layer.base_layer.weight for pair in find_pairs(model)]

    def seconds(self) -> float:
        """Time of one step; switching hooks on and off is not part of it, in real training they stay on."""
        with self.hooks.attach() if self.hooks is not None else self._materialised():
            start = time.perf_counter()
            self.optimizer.zero_grad()
            loss = self.loss_of()
            loss.backward()
            if self.method == "autograd":
                torch.stack(torch._foreach_norm([weight.grad for weight in self.frozen])).square().sum().sqrt().item()
            if self.method == "sgd_geometry":
                self._geometry()
            if self.method in RULES:
                self.optimizer.step(loss=loss)
            else:
                self.optimizer.step()
            return time.perf_counter() - start

    def _geometry(self) -> None:
        """The Gram numbers of the majorizer for the gradient's direction."""
        pairs = find_pairs(self.model)
        A, B = zip(*(factor_blocks(p.A.detach(), p.B.detach(), p.groups) for p in pairs), strict=True)
        D_A, D_B = zip(*(factor_blocks(p.A.grad, p.B.grad, p.groups) for p in pairs), strict=True)
        displacement_gram(A, B, D_A, D_B, [p.scaling for p in pairs]).pp.sum().item()

    def _materialised(self) -> AbstractContextManager[None]:
        return _Trainable(self.frozen) if self.method == "autograd" else nullcontext()


class _Trainable(AbstractContextManager[None]):
    """Frozen weights whose gradient autograd forms."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights

    def __enter__(self) -> None:
        for weight in self.weights:
            weight.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        for weight in self.weights:
            weight.requires_grad_(False)
            weight.grad = None


def smollm2(samples: int = 2, tokens: int = 128) -> tuple[nn.Module, Callable[[], Tensor]]:
    from lorate.tasks import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load_model(None, "causal-lm", device=device)
    torch.manual_seed(0)
    model = peft.get_peft_model(base.model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    batch = torch.randint(0, 49152, (samples, tokens), device=device)
    return model, lambda: model(input_ids=batch, labels=batch).loss


def wide(rows: int = 512, width: int = 4096) -> tuple[nn.Module, Callable[[], Tensor]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)).to(device)
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["0", "2"]))
    x = torch.randn(rows, width, device=device)
    return model, lambda: model(x).square().mean()


MODELS = {"smollm2": smollm2, "wide": wide}


def ratios(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of each method's time over SGD's, round by round."""
    model, loss_of = MODELS[name]()
    model.train()
    steps = {method: Step(model, loss_of, method) for method in METHODS}
    for step in steps.values():
        step.seconds()
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    order = list(METHODS)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        times = {method: steps[method].seconds() for method in order}
        for method in METHODS:
            found[method].append(times[method] / times["sgd"])
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
    found["exact_over_autograd"] = [a / b for a, b in zip(found["exact"], found["autograd"], strict=True)]
    del found["sgd"]
    return {
        method: dict(zip(("lower", "median", "upper"), statistics.quantiles(values, n=4), strict=True))
        for method, values in found.items()
    }


def sketch_error(seeds: int = 20) -> float:
    """Median over seeds of the relative error of the sketched norm of all layers together."""
    model, loss_of = smollm2()
    pairs = find_pairs(model)
    with GradientCapture(pairs, "exact") as exact:
        loss_of().backward()
    truth = float(exact.norms().double().square().sum().sqrt())
    errors = []
    for seed in range(seeds):
        with GradientCapture(pairs, "sketch", seed=seed) as sketch:
            loss_of().backward()
        errors.append(abs(float(sketch.norms().double().square().sum().sqrt()) / truth - 1))
    return statistics.median(errors)


def peak_memory(rounds: int) -> dict[str, list[float]]:
    """Peak resident size, in MB, of processes that take three steps on the wide stack; one per round and method."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(rounds):
        for method in METHODS:
            command = [sys.executable, __file__, "--memory-of", method]
            child = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found[method].append(float(child.stdout))
        print(f"memory: round {number + 1} of {rounds}", file=sys.stderr)
    return found


def memory_ratios(sizes: dict[str, list[float]]) -> dict[str, float]:
    """Median over the rounds of each method's size over SGD's."""
    return {
        f"memory_{method}": statistics.median(own / sgd for own, sgd in zip(sizes[method], sizes["sgd"], strict=True))
        for method in METHODS
        if method != "sgd"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="interleaved steps of each method (default %(default)s)")
    parser.add_argument(
        "--memory-rounds", type=int, default=5, help="child processes of each method (default %(default)s)"
    )
    parser.add_argument("--memory-of", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        step = Step(*wide(), options.memory_of)
        for _ in range(3):
            step.seconds()
        # not getrusage: its peak is inherited from the process that started this one
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(peak.split()[1]) / 1024)
        return
    detail = {name: ratios(name, options.rounds) for name in MODELS}
    worst = {m: max(detail[name][m]["median"] for name in MODELS) for m in detail["wide"]}
    memory = peak_memory(options.memory_rounds)
    summary = {
        "overhead_constant": worst["constant"],
        "overhead_adaptive_loss": worst["adaptive_loss"],
        "overhead_normalized": worst["normalized"],
        "overhead_sketch": worst["sketch"],
        "overhead_sharp": worst["sharp_sketch"],
        "overhead_exact": worst["exact"],
        "exact_over_autograd": worst["exact_over_autograd"],
        "overhead_geometry": worst["sgd_geometry"],
        "sketch_relative_error": sketch_error(),
        **memory_ratios(memory),
    }
    rounded = {name: round(value, 4) for name, value in summary.items()}
    record("overhead", COMMAND, rounded, rounds=options.rounds, ratios=json.loads(json.dumps(detail)), memory_mb=memory)


if __name__ == "__main__":
    main()
