"""What the runs do: functions of plain values that return plain values."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorate.errors import LorateError
from lorate_papers.experiments.full_vs_lora.settings import EVALUATIONS, OPTIMIZER, Adapter
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuned_runs import tuned_runs
from lorate_papers.workloads import AdapterSpec, load_workload


def tuned_variant(
    task: str, adapter: Adapter, grid: Sequence[float], seeds: Sequence[int], steps: int, batch: int, quick: bool
) -> Values:
    """Tune the learning rate, run on all seeds, and count the operations of a step."""

    def descend(rule: str, lr: float, seed: int) -> Values:
        every = max(1, steps // EVALUATIONS)
        return train_under_rule(
            task, adapter, rule, lr, steps, batch, seed, quick=quick, validate_every=every, keep=steps
        )

    found = tuned_runs(descend, OPTIMIZER, grid, seeds)
    return {**found, "flops": flops_of_a_step(task, adapter, batch, quick)}


def flops_of_a_step(task: str, adapter: Adapter, batch: int, quick: bool) -> int:
    """Floating-point operations of one forward and backward pass, as PyTorch counts them.

    Matrix products, convolutions and attention count; the optimizer and other element-wise work does not.
    """
    workload = load_workload(task, quick=quick)
    model = workload.model(None if adapter is None else AdapterSpec(**adapter), 0)
    # the fused attention kernel of the CPU is unknown to the counter
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        workload.loss(model, next(workload.batches(batch, 0))).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def memory(task: str, batch: int, quick: bool) -> Values:
    """Peak memory of every variant in MiB, see `lorate_papers.experiments.full_vs_lora.memory`, in fresh processes.

    Raises:
        LorateError: a process failed, or the system ended it.
    """
    words = [
        sys.executable,
        "-m",
        "lorate_papers.experiments.full_vs_lora.memory",
        task,
        str(batch),
        *["--quick"] * quick,
    ]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise LorateError(f"The memory of {task} could not be measured: {reason}")
    measured: Values = json.loads(done.stdout.splitlines()[-1])
    return measured
