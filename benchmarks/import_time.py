"""What importing lorate costs: in fresh processes, against `import torch`, which it cannot do without.

`import lorate` alone loads nothing, not even torch; so what is timed is the import and the first look at
`create_optimizer` and `Monitor`, as in any training script.

Each round starts one process for either import, in random order, so that a busy machine disturbs both alike; a first
round, which fills the disk's cache and writes bytecode, is not counted. A process times its import alone, without the
start of the interpreter: by the clock, and by the processor time that it used, user and system together.

How to read it: ``ratio`` is lorate's median time over that of ``import torch``, so 1.10 means that
lorate adds a tenth to what torch takes; it must stay below 1.1. ``wall`` is what a user waits for, ``cpu`` depends less
on what else the machine does. ``beside_torch`` lists the packages that are loaded for lorate and not after ``import
torch``, without the standard library.

Run: python benchmarks/import_time.py
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from typing import Any

from _record import record

COMMAND = "python benchmarks/import_time.py"
MODULES = {"torch": "import torch", "lorate": "import lorate; lorate.create_optimizer; lorate.Monitor"}
TIMED = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
packages = {{name.split(".")[0] for name in sys.modules}} - sys.stdlib_module_names
print(json.dumps({{"wall": wall, "cpu": cpu, "packages": sorted(packages)}}))
"""


def timed(module: str) -> dict[str, Any]:
    """Seconds of one import in a process of its own, and the packages that are loaded then."""
    code = TIMED.format(statement=MODULES[module])
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(found.stdout))


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians in seconds and their ratios, from the runs of each module."""
    found: dict[str, Any] = {"rounds": len(runs["torch"])}
    for clock in ("wall", "cpu"):
        median = {module: statistics.median(run[clock] for run in runs[module]) for module in MODULES}
        found[clock] = {f"{module}_s": seconds for module, seconds in median.items()}
        found[clock]["ratio"] = median["lorate"] / median["torch"]
    torch, lorate = (set(runs[module][-1]["packages"]) for module in MODULES)
    found["beside_torch"] = sorted(name for name in lorate - torch if not name.startswith("_"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="imports of each, by turns (default %(default)s)")
    rounds = parser.parse_args().rounds
    runs: dict[str, list[dict[str, Any]]] = {module: [] for module in MODULES}
    for counted in (False, *[True] * rounds):
        for module in random.sample(list(MODULES), len(MODULES)):
            found = timed(module)
            if counted:
                runs[module].append(found)
    seconds = {module: [{clock: run[clock] for clock in ("wall", "cpu")} for run in runs[module]] for module in MODULES}
    record("import_time", COMMAND, summary(runs), seconds=seconds)


if __name__ == "__main__":
    main()
