"""Whether ``lorate train``, which has no learning rate, keeps up with a tuned one when alpha or the rank change.

The demo's task (SmolLM2-135M on programming problems, options of `make demo`) at five settings of alpha and rank.
``auto`` is the command itself. AdamW, with 5% warm-up and cosine and without weight decay, starts from the same
adapters, sees the same batches and is evaluated on the same held-out examples. Of its 8 learning rates, evenly spaced
in the logarithm, the three around a guess are run, then neighbours of the best one until it lies between two worse
ones. The first setting, which is the demo's own, is also compared with AdamW at a constant 2e-4, PEFT users' habit.

Every finished run is a file in runs/demo-grid and is not done again.

Run: python benchmarks/demo_grid.py
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one run a core; read when torch is imported

import torch
from _record import record
from _regret.methods import METHODS
from _regret.settings import GRID_SIZE, GRIDS
from _regret.training import Stepper

from lorate.calibration.work import OwnTask
from lorate.sweep import Run, run_missing
from lorate.sweep.folder import SweepFolder
from lorate.training import TrainConfig, train
from lorate_papers.training.tuning import constants

COMMAND = "python benchmarks/demo_grid.py"
FOLDER = Path(__file__).parents[1] / "runs" / "demo-grid"
GRID = constants(*GRIDS["smollm2"], GRID_SIZE)
GUESSES = {(8, 16.0): 5, (8, 8.0): 5, (8, 512.0): 2, (4, 16.0): 5, (32, 16.0): 5}
"""By rank and alpha, the place in the grid where the search begins; the demo's own setting is the first."""
HABIT = 2e-4
Key = tuple[int, float]


def demo_config(rank: int, alpha: float, seed: int) -> TrainConfig:
    """The options of `make demo`, without the sampled completion."""
    return TrainConfig(
        rank=rank,
        alpha=alpha,
        seed=seed,
        train_on="all",
        max_length=128,
        steps=40,
        samples=0,
        device="cpu",
        keep="last",  # as AdamW, which keeps no best one
    )


def train_auto(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Held-out loss after ``lorate train``."""
    torch.set_num_threads(1)
    outcome = train(TrainConfig(**config), FOLDER / name, force=True)
    assert outcome.change is not None
    return {"before": outcome.change.before, "after": outcome.change.after, "examples": outcome.change.examples}


def train_adamw(config: Mapping[str, Any], method: str, lr: float) -> dict[str, Any]:
    """Held-out loss after the same steps with AdamW."""
    torch.set_num_threads(1)
    chosen = TrainConfig(**config)
    task = OwnTask(chosen)
    model = task.model(None, chosen.seed)
    before = task.validation_loss(model)
    model.train()
    stepper = Stepper(task, model, METHODS[method](model, lr, chosen.steps))
    batches, loss = task.batches(None, chosen.seed), 0.0
    while stepper.steps < chosen.steps and math.isfinite(loss):
        loss = stepper.step(next(batches))
    after = task.validation_loss(model)
    return {"before": before, "after": after if math.isfinite(after) and math.isfinite(loss) else None}


def auto_run(key: Key, seed: int) -> Run:
    name = f"auto-r{key[0]}-a{key[1]:g}-seed{seed}"
    return Run(name, train_auto, {"config": asdict(demo_config(*key, seed)), "name": name})


def adamw_run(key: Key, seed: int, method: str, lr: float) -> Run:
    name = f"{method}-{lr:g}-r{key[0]}-a{key[1]:g}-seed{seed}"
    return Run(name, train_adamw, {"config": asdict(demo_config(*key, seed)), "method": method, "lr": lr})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one per core)")
    parser.add_argument("--seed", type=int, default=0, help="of adapters and batches (default %(default)s)")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder, seed = SweepFolder(FOLDER), options.seed
    demo = next(iter(GUESSES))
    habit = adamw_run(demo, seed, "adamw", HABIT)
    wanted = [habit, *(auto_run(key, seed) for key in GUESSES)]
    tried = {key: {guess - 1, guess, guess + 1} for key, guess in GUESSES.items()}
    while True:
        grid = [adamw_run(key, seed, "adamw-cosine", GRID[i]) for key, own in tried.items() for i in sorted(own)]
        run_missing([*wanted, *grid], folder, options.jobs, _show)
        losses = {key: {i: _after(folder, key, seed, i) for i in own} for key, own in tried.items()}
        more = {key: missing for key, own in losses.items() if (missing := neighbours(own))}
        if not more:
            break
        for key, missing in more.items():
            tried[key] |= missing
    autos = {key: _result(folder, auto_run(key, seed)) for key in GUESSES}
    conclude(seed, losses, autos, _result(folder, habit)["after"])


def neighbours(losses: Mapping[int, float]) -> set[int]:
    """What is to be tried before the best of these is known to lie between two worse ones, or at the grid's end."""
    best = min(losses, key=lambda i: losses[i])
    return {i for i in (best - 1, best + 1) if 0 <= i < len(GRID)} - set(losses)


def conclude(
    seed: int, losses: Mapping[Key, Mapping[int, float]], autos: Mapping[Key, Mapping[str, Any]], habit: float
) -> None:
    """Write the results."""
    rows = []
    for (rank, alpha), own in losses.items():
        auto = autos[rank, alpha]
        best = min(own, key=lambda i: own[i])
        rows.append(
            {
                "rank": rank,
                "alpha": alpha,
                "before": auto["before"],
                "auto": auto["after"],
                "best_of_grid": own[best],
                "best_rate": GRID[best],
                "regret": auto["after"] / own[best] - 1,
                "grid": {f"{GRID[i]:.3g}": own[i] if math.isfinite(own[i]) else "diverged" for i in sorted(own)},
            }
        )
    demo = rows[0]
    numbers = {
        "worst_regret": max(row["regret"] for row in rows),
        "demo_auto": demo["auto"],
        "demo_adamw_2e-4": habit,
        "settings": len(rows),
        "seed": seed,
    }
    record("demo_grid", COMMAND, numbers, protocol=__doc__, rows=rows)


def _after(folder: SweepFolder, key: Key, seed: int, place: int) -> float:
    after = _result(folder, adamw_run(key, seed, "adamw-cosine", GRID[place]))["after"]
    return math.inf if after is None else float(after)


def _result(folder: SweepFolder, run: Run) -> Mapping[str, Any]:
    finished = folder.finished(run)
    assert finished is not None
    result: Mapping[str, Any] = finished["result"]
    return result


def _show(done: int, total: int, name: str) -> None:
    print(f"{done} of {total} runs {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
