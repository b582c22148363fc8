"""How much a process grows while it trains.

``python -m lorate_papers.experiments.full_vs_lora.memory TASK BATCH [--quick]``

Prints a JSON object: for every variant the MiB of gradients, optimizer state and activations at their highest, null
where the system does not tell. Each variant trains in a child of its own, so that none inherits memory from another.
"""

import ctypes.util
import gc
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

from lorate_papers.experiments.full_vs_lora.plan import OPTIMIZER, VARIANTS, Adapter
from lorate_papers.training.training_run import train_under_rule
from lorate_papers.workloads import load_workload

STEPS = 3


def peak_mib(task: str, adapter: Adapter, batch: int, quick: bool) -> float | None:
    """Growth during a few steps, after the model was built; the second time, when all code has been loaded."""
    peak: float | None = None
    for _ in range(2):
        gc.collect()
        _give_back()
        peak = train_under_rule(task, adapter, OPTIMIZER, 1e-4, STEPS, batch, 0, quick=quick)["peak_mib"]
    return peak


def _give_back() -> None:
    """Return to the system what is free in the C library's heap: the growth would fill that first."""
    with suppress(OSError, AttributeError, TypeError):  # only glibc has this function
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)


def main(task: str, batch: int, quick: bool) -> None:
    """Measure every variant."""
    load_workload(task, quick=quick)  # the children find it in memory
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    peaks = {}
    for name, adapter in VARIANTS.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            peaks[name] = pool.submit(peak_mib, task, adapter, batch, quick).result()
    print(json.dumps(peaks))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "--quick" in sys.argv)
