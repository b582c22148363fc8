"""Steps that the rules with a proof need to reach the loss of ``theory``, on logistic regression of the digits.

Full batch, pixels / 16, no bias, W0 = 0, s = 1, PEFT's default start, L in closed form. ``theory`` takes 2,000 steps
with max(L, 1); the others run until they reach its last loss. Of seeds 0 to 4 the worst counts (``steps_ratio_RULE``);
seeds 5 to 19 show the spread. The same with centred pixels, whose L is 15 times smaller (``..._centred``), and with
the majorizer along the scaled gradient instead of the gradient (``steps_ratio_majorizer_scaled_gradient``).

How to read it: ``steps_ratio`` is the share of the 2,000 steps that was enough, so 0.05 is 20 times fewer; smaller is
better. ``evaluations_per_step`` counts gradients, of which backtracking sometimes needs a second.

Run: OMP_NUM_THREADS=1 python benchmarks/steps.py
"""

import argparse
import statistics
from typing import Any

import peft
import torch
from _record import record
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lorate
from lorate.smoothness import logistic_smoothness

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/steps.py"
RANKS = (4, 20)
SEEDS = range(20)
COUNTING_SEEDS = range(5)
THEORY_STEPS = 2000
COUNTED_STEPS = 200
"""Steps over which loss evaluations are counted; more than any rule here needs."""

Row = dict[str, Any]


class ScaledGradient(torch.optim.Optimizer):
    """Moves B by -gB (A Aᵀ)⁻¹ and A by -(Bᵀ B)⁻¹ gA; the weights' path then does not depend on how W is factored.

    For one adapter, as a direction of the majorizer. Source: Tong, Ma and Chi 2021 (ScaledGD); for LoRA, Zhang and
    Pilanci 2024.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move both factors at once."""
        A, B = self.param_groups[0]["params"]
        across_A, across_B = (torch.linalg.pinv(gram, rtol=1e-8, hermitian=True) for gram in (A @ A.T, B.T @ B))
        B.sub_(B.grad @ across_A)
        A.sub_(across_B @ A.grad)


RULES: dict[str, dict[str, Any]] = {
    "sharp": {"rule": "sharp"},
    "one_factor": {"rule": "one-factor"},
    "majorizer": {"rule": "majorizer"},
    "majorizer_scaled_gradient": {"rule": "majorizer", "direction": ScaledGradient},
    "backtracking": {"rule": "backtracking"},
}


def digits(*, centred: bool) -> tuple[Tensor, Tensor]:
    data = load_digits()
    pixels = torch.tensor(data.data / 16, dtype=torch.float64)
    return pixels - pixels.mean(0) if centred else pixels, torch.tensor(data.target)


def adapted(rank: int, seed: int) -> nn.Module:
    """A linear classifier W = 0 + B A with PEFT's start: A uniform, B = 0."""
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(64, 10, bias=False, dtype=torch.float64))
    nn.init.zeros_(base[0].weight)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
    return peft.get_peft_model(base, config, autocast_adapter_dtype=False)


class Run:
    """Full-batch descent under one rule, from a start that rank and seed fix."""

    def __init__(self, options: dict[str, Any], rank: int, seed: int, X: Tensor, y: Tensor, L: float) -> None:
        self.model = adapted(rank, seed)
        known = None if options["rule"] == "backtracking" else L
        self.optimizer = lorate.create_optimizer(self.model, **options, smoothness=known)
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

    def take(self, steps: int) -> None:
        """So many steps."""
        for _ in range(steps):
            self.optimizer.step(self.closure)

    def steps_to(self, target: float, most: int) -> int:
        """Steps until the loss is at most the target."""
        for step in range(most):
            if self.loss() <= target:
                return step
            self.take(1)
        return most


def measure(X: Tensor, y: Tensor, L: float, seeds: range) -> list[Row]:
    rows = []
    for rank in RANKS:
        for seed in seeds:
            theory = Run({"rule": "theory"}, rank, seed, X, y, L)
            theory.take(THEORY_STEPS)
            target = theory.loss()
            for rule, options in RULES.items():
                run = Run(options, rank, seed, X, y, L)
                steps = run.steps_to(target, THEORY_STEPS)
                run.take(COUNTED_STEPS - steps)
                row: Row = {
                    "rank": rank,
                    "seed": seed,
                    "rule": rule,
                    "theory_loss": target,
                    "steps": steps,
                    "steps_ratio": steps / THEORY_STEPS,
                    "evaluations_per_step": run.evaluations / COUNTED_STEPS,
                }
                print(f"rank {rank:2d} seed {seed:2d} {rule:25s} {steps:4d} steps, 1/{THEORY_STEPS / steps:.1f}")
                rows.append(row)
    return rows


def worst(rows: list[Row], field: str, **wanted: Any) -> float:
    """The largest value of a field over the seeds that count."""
    chosen = [row for row in rows if row["seed"] in COUNTING_SEEDS and wanted.items() <= row.items()]
    return max(float(row[field]) for row in chosen)


def summary(rows: list[Row], L: float, centred: list[Row], centred_L: float) -> dict[str, float]:
    result: dict[str, float] = {"smoothness": L, "smoothness_centred": centred_L, "theory_steps": THEORY_STEPS}
    for rule in RULES:
        result[f"steps_ratio_{rule}"] = worst(rows, "steps_ratio", rule=rule)
        for rank in RANKS:
            result[f"steps_ratio_{rule}_rank_{rank}"] = worst(rows, "steps_ratio", rule=rule, rank=rank)
            every = [row["steps_ratio"] for row in rows if row["rule"] == rule and row["rank"] == rank]
            result[f"steps_ratio_{rule}_rank_{rank}_least_of_20"] = min(every)
            result[f"steps_ratio_{rule}_rank_{rank}_median_of_20"] = statistics.median(every)
            result[f"steps_ratio_{rule}_rank_{rank}_worst_of_20"] = max(every)
            result[f"steps_ratio_{rule}_rank_{rank}_centred"] = worst(centred, "steps_ratio", rule=rule, rank=rank)
        result[f"evaluations_per_step_{rule}"] = worst(rows, "evaluations_per_step", rule=rule)
    return result


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    found: dict[bool, tuple[list[Row], float]] = {}
    for centred, seeds in ((False, SEEDS), (True, COUNTING_SEEDS)):
        X, y = digits(centred=centred)
        L = logistic_smoothness(X.numpy())
        pixels = "centred pixels" if centred else "pixels"
        print(f"{pixels} / 16: L = {L:.6f} (closed form); theory uses max(L, 1)")
        found[centred] = measure(X, y, L, seeds), L
    (rows, L), (centred, centred_L) = found[False], found[True]
    figures = summary(rows, L, centred, centred_L)
    record("steps", COMMAND, figures, protocol=__doc__, runs=rows, runs_centred=centred)


if __name__ == "__main__":
    main()
