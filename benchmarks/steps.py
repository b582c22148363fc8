"""Steps that the rules with a proof need to reach the loss of ``theory``, on logistic regression of the digits.

Full batch, pixels / 16, no bias, W0 = 0, s = 1, PEFT's default start, L in closed form. ``theory`` takes 2,000 steps
with max(L, 1); the others run until they reach its last loss. Of all seeds the worst counts.

Run: OMP_NUM_THREADS=1 python benchmarks/steps.py
"""

import argparse

import peft
import torch
from _record import record
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lorate
from lorate.smoothness import logistic_smoothness

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/steps.py"
RANKS = (4, 20)
SEEDS = range(5)
THEORY_STEPS = 2000
COUNTED_STEPS = 200
"""Steps over which loss evaluations are counted; more than any rule here needs."""
RULES = ("sharp", "one-factor", "majorizer", "backtracking")


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float64), torch.tensor(data.target)


def adapted(rank: int, seed: int) -> nn.Module:
    """A linear classifier W = 0 + B A with PEFT's start: A uniform, B = 0."""
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(64, 10, bias=False, dtype=torch.float64))
    nn.init.zeros_(base[0].weight)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
    return peft.get_peft_model(base, config, autocast_adapter_dtype=False)


class Run:
    """Full-batch descent under one rule, from a start that rank and seed fix."""

    def __init__(self, rate: str, rank: int, seed: int, X: Tensor, y: Tensor, L: float) -> None:
        self.model = adapted(rank, seed)
        known = None if rate == "backtracking" else L
        self.optimizer = lorate.create_optimizer(self.model, rate, smoothness=known)
        self.X, self.y = X, y
        self.evaluations = 0

    def closure(self) -> Tensor:
        """Loss and gradients at the present adapters."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.X), self.y)
        loss.backward()
        self.evaluations += 1
        return loss

    def loss(self) -> float:
        """Loss alone."""
        with torch.no_grad():
            return nn.functional.cross_entropy(self.model(self.X), self.y).item()

    def steps_to(self, target: float, most: int) -> int:
        """Steps until the loss is at most the target."""
        for step in range(most):
            if self.loss() <= target:
                return step
            self.optimizer.step(self.closure)
        return most


def measure(X: Tensor, y: Tensor, L: float) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    for rank in RANKS:
        for seed in SEEDS:
            theory = Run("theory", rank, seed, X, y, L)
            theory.steps_to(-1.0, THEORY_STEPS)
            target = theory.loss()
            for rate in RULES:
                run = Run(rate, rank, seed, X, y, L)
                steps = run.steps_to(target, THEORY_STEPS)
                run.steps_to(-1.0, COUNTED_STEPS - steps)
                row = {
                    "rank": rank,
                    "seed": seed,
                    "rate": rate,
                    "theory_loss": target,
                    "steps": steps,
                    "steps_ratio": steps / THEORY_STEPS,
                    "evaluations_per_step": run.evaluations / COUNTED_STEPS,
                }
                print(f"rank {rank:2d} seed {seed} {rate:12s} {steps:4d} steps, 1/{THEORY_STEPS / steps:.1f}")
                rows.append(row)
    return rows


def summary(rows: list[dict[str, float | str]], L: float) -> dict[str, float]:
    result: dict[str, float] = {"smoothness": L, "theory_steps": THEORY_STEPS}
    for rate in RULES:
        name = rate.replace("-", "_")
        own = [row for row in rows if row["rate"] == rate]
        result[f"steps_ratio_{name}"] = max(float(row["steps_ratio"]) for row in own)
        for rank in RANKS:
            values = [float(row["steps_ratio"]) for row in own if row["rank"] == rank]
            result[f"steps_ratio_{name}_rank_{rank}"] = max(values)
        result[f"evaluations_per_step_{name}"] = max(float(row["evaluations_per_step"]) for row in own)
    return result


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    X, y = digits()
    L = logistic_smoothness(X.numpy())
    print(f"L = {L:.6f} (closed form); theory uses max(L, 1)")
    rows = measure(X, y, L)
    record("steps", COMMAND, summary(rows, L), protocol=__doc__, runs=rows)


if __name__ == "__main__":
    main()
