"""Small tasks with real data that experiments, calibration and benchmarks run on; needs the extra ``hf``.

To add one, write a module with a function ``load(*, quick, data, model)`` that returns a `Workload`, and name it in
`WORKLOADS`.
"""

from functools import lru_cache
from importlib import import_module

from lorate.errors import LorateError
from lorate_papers.workloads.workload import AdapterSpec, Batch, Workload

WORKLOADS = {
    "logistic": "lorate_papers.workloads.logistic",
    "embeddings": "lorate_papers.workloads.embeddings",
    "matrix": "lorate_papers.workloads.matrix",
    "small-lm": "lorate_papers.workloads.small_lm",
    "resnet": "lorate_papers.workloads.resnet",
    "pointwise": "lorate_papers.workloads.pointwise",
    "smollm2": "lorate_papers.workloads.smollm2",
    "minilm": "lorate_papers.workloads.minilm",
}
"""The module of each workload; imported when it is asked for."""


@lru_cache(maxsize=1)
def load_workload(name: str, *, quick: bool = False, data: str | None = None, model: str | None = None) -> Workload:
    """A workload by name; the last one stays in memory, for many runs of it in one process.

    Args:
        name: one of `WORKLOADS`.
        quick: the small form, which needs no preparation.
        data: other data than the embedded one, where the workload takes any.
        model: another model than the embedded one, where the workload takes any.

    Raises:
        LorateError: no such workload, data or model; or a package with the data is not installed.

    >>> load_workload("logistic").name
    'logistic'
    """
    if name not in WORKLOADS:
        raise LorateError(f"There is no workload {name!r}; there are: {', '.join(WORKLOADS)}.")
    workload: Workload = import_module(WORKLOADS[name]).load(quick=quick, data=data, model=model)
    return workload


__all__ = ["WORKLOADS", "AdapterSpec", "Batch", "Workload", "load_workload"]
