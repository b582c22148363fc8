"""Rule ``auto`` on every method of PEFT, against the best of eight learning rates of AdamW.

A tiny language model learns sequences x -> a x + b; 60 steps of 16 rows, then the loss on 128 rows that were not seen.
AdamW runs with each of eight rates, warmed up over a tenth of the steps and then a cosine to zero; ``auto`` runs once,
with no number given. ``worse`` is how far it ends above the best of the eight, as a share of that loss.

Run: OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/adapters.py
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from _peft_methods import VOCABULARY, build, inputs, names
from _record import record
from _rows import change_rows, kept_rows

import lorate

COMMAND = "OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/adapters.py"
RATES = tuple(10.0 ** (k / 2) for k in range(-8, 0))
STEPS, ROWS, LENGTH, HELD_OUT = 60, 16, 12, 128


def rows(count: int, seed: int) -> torch.Tensor:
    """Sequences over the words from 2 on; which a and b, the first words tell."""
    generator = torch.Generator().manual_seed(seed)
    words, found = VOCABULARY - 2, []
    for _ in range(count):
        x = int(torch.randint(words, (1,), generator=generator))
        a, b = [(1, 3), (7, 1), (11, 5)][int(torch.randint(3, (1,), generator=generator))]
        sequence = []
        for _ in range(LENGTH):
            sequence.append(x + 2)
            x = (a * x + b) % words
        found.append(sequence)
    return torch.tensor(found)


def batches(seed: int) -> Iterator[torch.Tensor]:
    """Of the training."""
    yield from rows(STEPS * ROWS, seed).split(ROWS)


def held_out(model: Any, name: str) -> float:
    """Mean loss, without dropout."""
    model.eval()
    with torch.no_grad():
        return float(model(**inputs(name, rows(HELD_OUT, 999))).loss)


def with_adamw(name: str, rate: float, seed: int) -> float:
    """Held-out loss after AdamW."""
    model = build(name).train()
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    warm = STEPS // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(t - warm, 0) / (STEPS - warm))))
    )
    for batch in batches(seed):
        optimizer.zero_grad()
        model(**inputs(name, batch)).loss.backward()
        optimizer.step()
        schedule.step()
    return held_out(model, name)


def with_auto(name: str, seed: int) -> float:
    """Held-out loss after ``auto``."""
    model = build(name).train()
    torch.manual_seed(seed)
    optimizer = lorate.create_optimizer(model)
    for batch in batches(seed):

        def closure(batch: torch.Tensor = batch) -> Any:
            loss = model(**inputs(name, batch)).loss
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
    optimizer.finish()
    return held_out(model, name)


def compare(name: str, seed: int = 0) -> dict[str, Any]:
    """One row of the table."""
    start = held_out(build(name), name)
    losses = {rate: with_adamw(name, rate, seed) for rate in RATES}
    best = min((rate for rate in RATES if math.isfinite(losses[rate])), key=losses.__getitem__)
    auto = with_auto(name, seed)
    return {
        "start": start,
        "best_rate": best,
        "best": losses[best],
        "auto": auto,
        "worse": auto / losses[best] - 1,
        "losses": list(losses.values()),
    }


def auto_again(row: dict[str, Any]) -> dict[str, Any]:
    """What changes in a row with ``auto``."""
    auto = with_auto(*row["plan"], seed=0)
    return {"auto": auto, "worse": auto / row["best"] - 1}


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="these methods, without a record")
    parser.add_argument("--auto-again", action="store_true", help="repeat the runs of auto only, after it was changed")
    parser.add_argument("--so-far", action="store_true", help="record the methods that were run")
    args = parser.parse_args()
    if args.auto_again:
        change_rows("adapters", auto_again)
    only = args.only
    if only:
        for name in only:
            print(compare(name))
    else:
        found = kept_rows("adapters", [(name,) for name in names()], compare, more=not args.so_far)
        worse = [row["worse"] for row in found]
        worst = max(found, key=lambda row: row["worse"])
        summary = {
            "methods": len(found),
            "median_worse": statistics.median(worse),
            "worst_worse": worst["worse"],
            "worst_method": worst["plan"][0],
            "above_a_tenth": sum(value > 0.1 for value in worse),
            **{f"worse {row['plan'][0]}": row["worse"] for row in found},
        }
        record("adapters", COMMAND, summary)


if __name__ == "__main__":
    main()
