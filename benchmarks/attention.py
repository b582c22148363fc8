"""Times of the solvable attention model on one core.

How to read it: seconds (``_s``) or milliseconds (``_ms``) for one point of a curve, unless the name says how many.

Run: OMP_NUM_THREADS=1 python benchmarks/attention.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from _record import record

from lorate_papers.attention import (
    Finetuning,
    Pretraining,
    predict,
    solve_finetuning,
    solve_pretraining,
    solve_softmax_finetuning,
    solve_softmax_pretraining,
)
from lorate_papers.attention.simulation import draw_instance, finetune_adapter, gaussian_data, pretrain_map

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/attention.py"
PRETRAINING = [
    (0.1, 0.01, 3, 1, 1),
    (0.1, 0.1, 3, 1, 1),
    (0.1, 1, 3, 1, 1),
    (0.2, 0.05, 2, 0.5, 1),
    (0.05, 0.001, 3, 2, 1),
]
FINETUNING = [(3, 0.5, 0.622326, 3), (3, 0.05, 0.695549, 3), (3, 1, 0.487237, 2), (1, 0.5, 0.1, 3)]


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one call that is not counted where several are made."""
    if repeats > 1:
        action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure() -> dict[str, float]:
    summary: dict[str, float] = {}
    problems = [Pretraining(*row) for row in PRETRAINING]
    each = [seconds(lambda p=p: solve_pretraining(p), 7) for p in problems]
    summary["linear_pretraining_ms_median"] = 1e3 * statistics.median(each)
    summary["linear_pretraining_ms_worst"] = 1e3 * max(each)
    tunings = [Finetuning(alpha, lam, noise, tokens) for alpha, lam, noise, tokens in FINETUNING]
    each = [seconds(lambda p=p: solve_finetuning(p), 3) for p in tunings]
    summary["linear_finetuning_s_median"] = statistics.median(each)
    summary["linear_finetuning_s_worst"] = max(each)
    start = time.perf_counter()
    for lam in np.geomspace(1e-3, 1.0, 20):
        predict(0.1, float(lam), finetune_alpha=3, finetune_lam=0.5)
    summary["linear_curve_of_20_points_s"] = time.perf_counter() - start
    for tokens, alpha, lam in ((2, 0.3, 0.03), (3, 0.2, 0.01)):
        problem = Pretraining(alpha, lam, tokens)
        order = solve_softmax_pretraining(problem, 2**12)
        summary[f"softmax_pretraining_T{tokens}_s"] = seconds(lambda p=problem: solve_softmax_pretraining(p, 2**12), 1)
        for reused in (False, True):
            name = f"softmax_finetuning_T{tokens}_{'reused' if reused else 'fresh'}_s"
            summary[name] = seconds(
                lambda o=order, r=reused: solve_softmax_finetuning(o, 3, 0.1, reused=r, points=2**12), 1
            )
    instance = draw_instance(Pretraining(0.1, 0.1), 100, (0,))
    summary["simulated_pretraining_D100_s"] = seconds(lambda: pretrain_map(instance), 3)
    data = gaussian_data(Finetuning(3, 0.5, 0.622), 100, (0,))
    summary["simulated_finetuning_D100_four_starts_s"] = seconds(lambda: finetune_adapter(data, 0.5), 3)
    return {name: round(value, 4) for name, value in summary.items()}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    record("attention", COMMAND, measure())


if __name__ == "__main__":
    main()
