"""What ``lorate train`` gains on a CPU from keeping freed memory in the process (`lorate.freed_memory`).

The C library of most Linux systems (glibc) hands blocks of more than 32 MiB back to the kernel as soon as they are
freed, and every training step asks for as much again, page by page.

Each round trains twice, each time in a process of its own and in random order: SmolLM2-135M on the embedded programming
problems, with glibc's own setting and with that of lorate. A round's time is the median over its steps, the first three
left out.

How to read it: ``ratio`` is the time of a step with lorate's setting over that without it, median over the rounds, so
0.8 saves a fifth. ``peak memory`` is the same for the most memory that the process held.

Run: python benchmarks/memory_kept.py
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from _record import record

from lorate.jsonl import read_jsonl

COMMAND = "python benchmarks/memory_kept.py"
WAYS = ("usual", "kept")
WARM_UP = 3
MEASURED = """
import resource, sys
import lorate.freed_memory
from lorate.cli.app import run
if {usual}:
    lorate.freed_memory.keep_freed_memory = lambda: False
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def train(way: str, steps: int, place: Path) -> dict[str, float]:
    """Median seconds of a step and peak memory in bytes of a run."""
    words = ["train", "--train-on", "all", "--max-length", "128", "--samples", "0", "--eval-examples", "2"]
    words += ["--steps", str(steps), "--eval-every", str(steps), "--save-every", str(steps), "--keep", "last"]
    command = [sys.executable, "-c", MEASURED.format(usual=way == "usual"), *words, "--output", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ends = [one["seconds"] for one in read_jsonl(place / "metrics.jsonl").records]
    steps_taken = [b - a for a, b in pairwise(ends)][WARM_UP - 1 :]
    return {"step": statistics.median(steps_taken), "peak memory": float(done.stdout.split()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="steps of a training (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="trainings of each kind (default %(default)s)")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for way in random.sample(WAYS, len(WAYS)):
                found[way].append(train(way, options.steps, Path(folder) / f"{way}-{number}"))
                print(way, found[way][-1], flush=True)
    rounds = list(zip(found["kept"], found["usual"], strict=True))
    summary: dict[str, Any] = {}
    for name, of in (("ratio", "step"), ("peak memory", "peak memory")):
        ratios = [kept[of] / usual[of] for kept, usual in rounds]
        summary[name] = statistics.median(ratios)
        summary[f"{name}, least and most"] = [min(ratios), max(ratios)]
    summary |= {"steps": options.steps, "rounds": options.rounds}
    record("memory_kept", COMMAND, summary, runs=found)


if __name__ == "__main__":
    main()
