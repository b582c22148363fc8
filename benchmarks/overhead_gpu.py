"""What a rule costs on a GPU: a LoRA step under it against the same step with AdamW, side by side.

The model has the shape of SmolLM2-135M with random weights (nothing is downloaded), LoRA of rank 16 on all linear
layers, in bfloat16 autocast. In each round every method takes one step, in random order; the ratio of a round is the
method's time over AdamW's in that round, with the device synchronised before and after. Reported are medians and
quartiles, the optimizer's step alone in milliseconds, and the peak of allocated memory over AdamW's.

Run: python benchmarks/overhead_gpu.py
"""

import argparse
import random
import statistics
import time
from typing import Any

import peft
import torch
from _record import record
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import lorate

COMMAND = "python benchmarks/overhead_gpu.py"
RULES: dict[str, dict[str, Any]] = {
    "auto": {"rule": "auto"},
    "constant": {"rule": "constant", "lr": 1e-3},
    "adaptive_loss": {"rule": "adaptive-loss"},
    "normalized": {"rule": "normalized", "lr": 1e-3},
    "sketch": {"rule": "adaptive", "gradient_norm": "sketch"},
    "exact": {"rule": "adaptive", "gradient_norm": "exact"},
    "majorizer": {"rule": "majorizer", "smoothness": 1e3},
}
METHODS = ("adamw", "sgd", *RULES)
TORCH = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_model() -> nn.Module:
    """SmolLM2-135M's shape."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    )  # fmt: skip
    lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(LlamaForCausalLM(config), lora).cuda().train()


class Step:
    """One training step under a method."""

    def __init__(self, method: str, batch: torch.Tensor) -> None:
        self.model, self.batch = make_model(), batch
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer: Any = (
            lorate.create_optimizer(self.model, **RULES[method]) if method in RULES else TORCH[method](trained, lr=1e-3)
        )

    def loss(self) -> torch.Tensor:
        """Of the batch."""
        with torch.autocast("cuda", torch.bfloat16):
            return self.model(input_ids=self.batch, labels=self.batch).loss

    def seconds(self) -> tuple[float, float]:
        """Of the whole step, and of the optimizer's part."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        torch.cuda.synchronize()
        middle = time.perf_counter()
        if isinstance(self.optimizer, lorate.LoraOptimizer):
            self.optimizer.replay = self.loss
            self.optimizer.step(loss=loss.detach())
        else:
            self.optimizer.step()
        torch.cuda.synchronize()
        end = time.perf_counter()
        return end - start, end - middle


def peak(method: str, batch: torch.Tensor) -> int:
    """Bytes that a method allocates at most, in its second to fourth step."""
    torch.cuda.empty_cache()
    step = Step(method, batch)
    step.seconds()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step.seconds()
    return torch.cuda.max_memory_allocated()


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="interleaved steps of each method (default %(default)s)")
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device; on a processor run benchmarks/overhead.py")
    batch = torch.randint(0, 49152, (8, 256), device="cuda")
    memory = {method: peak(method, batch) for method in METHODS}
    steps = {method: Step(method, batch) for method in METHODS}
    for step in steps.values():
        for _ in range(25):  # auto probes at each of its first steps
            step.seconds()
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}
    alone: dict[str, list[float]] = {method: [] for method in METHODS}
    order = list(METHODS)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        times = {method: steps[method].seconds() for method in order}
        for method, (whole, own) in times.items():
            ratios[method].append(whole / times["adamw"][0])
            alone[method].append(1e3 * own)
    quartiles = {
        method: dict(zip(("lower", "median", "upper"), statistics.quantiles(values, n=4), strict=True))
        for method, values in ratios.items()
    }
    summary = {f"overhead_{method}": round(statistics.median(ratios[method]), 4) for method in METHODS[1:]}
    summary |= {f"step_ms_{method}": round(statistics.median(alone[method]), 3) for method in METHODS}
    summary |= {f"memory_{method}": round(memory[method] / memory["adamw"], 4) for method in METHODS[1:]}
    record("overhead-gpu", COMMAND, summary, rounds=rounds, ratios=quartiles)


if __name__ == "__main__":
    main()
