"""A day-long run: what a million records cost to read and to draw, and what the monitor holds in memory.

The records are read with ``json.loads`` line by line (the plain way), with `lorate.jsonl.iterate_jsonl` (which names
damaged lines), by the report, which thins them out, and drawn as a page. Seconds are CPU time of one process.

Run: python benchmarks/long_run.py
"""

import argparse
import gc
import json
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import torch
from _record import record
from torch import nn

import lorate
from lorate.jsonl import iterate_jsonl
from lorate.report import write_report
from lorate.report.load import load_run

COMMAND = "python benchmarks/long_run.py"


def trained(directory: Path | None, steps: int = 3) -> tuple[Any, lorate.Monitor]:
    """An optimizer after a few steps of a tiny model, and its monitor."""
    torch.manual_seed(0)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(8, 3)), peft.LoraConfig(r=2, target_modules=["0"]))
    optimizer = lorate.create_optimizer(model, "adaptive-loss")
    monitor = lorate.Monitor(directory)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).square().mean()
        loss.backward()
        optimizer.step(loss=loss)
        monitor.update(optimizer, samples=4)
    return optimizer, monitor


def long_file(directory: Path, count: int) -> None:
    """A run whose records are those of a real step, with other numbers."""
    trained(directory)[1].close()
    metrics = directory / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1])
    generator = random.Random(0)
    with metrics.open("w") as file:
        for step in range(1, count + 1):
            file.write(json.dumps(last | {"step": step, "loss": generator.random(), "eta": generator.random()}) + "\n")


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def held_memory(updates: tuple[int, int]) -> list[int]:
    """Bytes that are held after so many updates of a monitor that writes."""
    with tempfile.TemporaryDirectory() as folder:
        optimizer, monitor = trained(Path(folder), steps=1)
        step, held = optimizer.last, []
        tracemalloc.start()
        for number in range(2, updates[-1] + 1):
            optimizer.last = replace(step, number=number, sum_eta=0.1 * number)
            monitor.update(optimizer, samples=1)
            if number in updates:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        monitor.close()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="steps of the run (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        long_file(run, options.records)
        lines = run / "metrics.jsonl"
        readers: dict[str, Callable[[], object]] = {
            "json_loads": lambda: sum(1 for line in lines.open("rb") if json.loads(line)),
            "iterate_jsonl": lambda: sum(1 for _ in iterate_jsonl(lines)),
            "report_load": lambda: load_run(run),
            "report_page": lambda: write_report([run], Path(folder) / "page.html"),
        }
        found: dict[str, float] = {}
        for name, reader in readers.items():
            found[f"seconds_{name}"] = round(seconds(reader), 2)
            print(name, found[f"seconds_{name}"], file=sys.stderr)
        size = lines.stat().st_size
    updates = (16_384, 131_072)  # the sparse past is equally full at both
    held = held_memory(updates)
    growth = (held[1] - held[0]) / (updates[1] - updates[0])
    summary = {"records": options.records, "megabytes": round(size / 1e6), **found}
    summary |= {"monitor_kilobytes": round(held[1] / 1e3), "monitor_bytes_per_update": round(growth, 3)}
    record("long_run", COMMAND, summary, updates=updates, held_bytes=held)


if __name__ == "__main__":
    main()
