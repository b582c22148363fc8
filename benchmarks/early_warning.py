"""How early the alarm ``rising`` warns of a divergence, and how often for nothing.

Small problems (logistic regression and a two-layer network on digits, matrix regression) under torch's own SGD, SGD
with momentum and AdamW, batches of 4, 8 and 32, learning rates drawn from a range of 400 around a usual one, constant
or growing 100-fold along the run. Runs are drawn until 200 have raised ``diverging`` and 200 have ended without it.

    OMP_NUM_THREADS=1 python benchmarks/early_warning.py     # half an hour; writes results/early_warning.json
"""

import argparse
import math
from typing import Any

import numpy as np
import peft
import torch
from _record import record
from sklearn.datasets import load_digits
from torch import nn

import lorate

STEPS = 300
DIGITS = load_digits()
X = torch.tensor(DIGITS.data / 16, dtype=torch.float32)
Y = torch.tensor(DIGITS.target)


class Problem:
    """A model with adapters, and a batch's loss."""

    def __init__(self, kind: str, rank: int, alpha: float, batch: int) -> None:
        self.kind, self.batch = kind, batch
        linear = [nn.Linear(64, 10, bias=False)]
        if kind == "network":
            linear = [nn.Linear(64, 32, bias=False), nn.Linear(32, 10, bias=False)]
        if kind == "regression":
            linear = [nn.Linear(12, 10, bias=False)]
            self.target = torch.randn(10, 3) @ torch.randn(3, 12) / 3
        layers = [linear[0], *(part for layer in linear[1:] for part in (nn.ReLU(), layer))]
        names = [str(i) for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        if kind != "network":
            nn.init.zeros_(linear[0].weight)
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
        self.model = peft.get_peft_model(nn.Sequential(*layers), config)

    def loss(self) -> torch.Tensor:
        """Of a new random batch."""
        if self.kind == "regression":
            x = torch.randn(self.batch, 12)
            return (self.model(x) - x @ self.target.T - 0.5 * torch.randn(self.batch, 10)).square().mean()
        rows = torch.randint(len(X), (self.batch,))
        return nn.functional.cross_entropy(self.model(X[rows]), Y[rows])


def one_run(seed: int) -> dict[str, Any]:
    """Steps at which the two alarms came first; None where they did not."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kind = ("logistic", "regression", "network")[seed % 3]
    name, batch, grows = (
        str(rng.choice(["sgd", "momentum", "adamw"])),
        int(rng.choice([4, 8, 32])),
        bool(rng.integers(2)),
    )
    rank, scaling = int(rng.choice([2, 4, 16])), float(rng.choice([1.0, 4.0]))
    problem = Problem(kind, rank, scaling * rank, batch)
    usual = {"sgd": 1.0 / scaling, "momentum": 0.1 / scaling, "adamw": 0.02}[name]
    lr = usual * 10 ** rng.uniform(-1.6, 1.0)
    trained = [parameter for parameter in problem.model.parameters() if parameter.requires_grad]
    if name == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(trained, lr=lr)
    else:
        optimizer = torch.optim.SGD(trained, lr=lr, momentum=0.9 if name == "momentum" else 0.0)
    monitor = lorate.Monitor(optimizer=optimizer, model=problem.model)
    first: dict[str, int] = {}
    for step in range(1, STEPS + 1):
        if grows:
            optimizer.param_groups[0]["lr"] = lr * 0.1 * 100 ** (step / STEPS)
        loss = problem.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for alarm in monitor.update(optimizer, loss=loss):
            first.setdefault(alarm.kind, step)
        if "diverging" in first or not math.isfinite(loss.item()):
            first.setdefault("diverging", step)
            break
    monitor.close()
    return {"kind": kind, "optimizer": name, "batch": batch, "grows": grows, "diverging": first.get("diverging"),
            "rising": first.get("rising")}  # fmt: skip


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Lead time and false alarms."""
    bad = [run for run in runs if run["diverging"] is not None]
    good = [run for run in runs if run["diverging"] is None]
    warned = [run for run in bad if run["rising"] is not None and run["rising"] <= run["diverging"]]
    leads = [run["diverging"] - run["rising"] for run in warned]
    late = [run for run in bad if run["diverging"] > 20]
    late_warned = [run for run in warned if run["diverging"] > 20]
    return {
        "diverging runs": len(bad),
        "warned before": len(warned),
        "of those that diverge after step 20": [len(late_warned), len(late)],
        "lead in steps: 10%, median, 90%": np.percentile(leads, [10, 50, 90]).tolist() if leads else None,
        "other runs": len(good),
        "false alarms": sum(run["rising"] is not None for run in good),
    }


def main() -> None:
    """Draw runs until both kinds are full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200, help="runs of each kind (default %(default)s)")
    parser.add_argument("--dry", action="store_true", help="print the numbers and write nothing")
    options = parser.parse_args()
    kept: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    seed = 0
    while min(len(runs) for runs in kept.values()) < options.each:
        run = one_run(seed)
        seed += 1
        of_its_kind = kept[run["diverging"] is not None]
        if len(of_its_kind) < options.each:
            of_its_kind.append(run)
    found = summary(kept[True] + kept[False]) | {"seeds": seed}
    if options.dry:
        print(found)
    else:
        record(
            "early_warning",
            "OMP_NUM_THREADS=1 python benchmarks/early_warning.py",
            found,
            runs=[*kept[True], *kept[False]],
        )


if __name__ == "__main__":
    main()
