"""What is run: every method at every learning rate, and rule auto at three alphas."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import train_model
from lorate_papers.training.tuning import constants
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

RANK = 8
RATIO = 16
r"""Of LoRA+: B's learning rate over A's. Adam's step does not change when a gradient is multiplied, so with
$B = 16B'$ the pair (A, B') at one rate and 16 times the scaling takes the same steps: this is how LoRA+ is run."""
USUAL, RECIPE, FULL_TUNING = "LoRA", "LoRA-α", "all weights"
METHODS: dict[str, Mapping[str, Any] | None] = {
    FULL_TUNING: None,
    USUAL: {"rank": RANK, "alpha": 2 * RANK},
    "rsLoRA": {"rank": RANK, "alpha": 2 * RANK, "use_rslora": True},
    "LoRA+": {"rank": RANK, "alpha": RATIO * 2 * RANK},
    "PiSSA": {"rank": RANK, "alpha": RANK, "pissa": True},
    RECIPE: {"rank": RANK, "alpha": 256 * math.sqrt(RANK)},
}
"""Fields of `AdapterSpec`; None trains all weights."""
RIVALS = tuple(name for name in METHODS if name not in (FULL_TUNING, RECIPE))
MERGED = (USUAL, RECIPE)
"""Methods whose adapters are merged after training."""
PAPER_RATE = 2e-5
AUTO_ALPHAS = (2.0 * RANK, 32.0 * RANK, 256 * math.sqrt(RANK))


class Study(NamedTuple):
    """On what the methods are compared, and how much is run."""

    workload: str
    small: bool  # the workload's small form
    batch: int  # examples a step
    rates: tuple[float, ...]  # the paper's among them
    seeds: Sequence[int]  # of the starts
    steps: int  # of a run
    every: int  # steps between two measurements of the held-out loss
    classes: bool = False  # whether there is an accuracy to compare


def small_lm(options: Options) -> Study:
    """A byte-level language model whose weights come with the package."""
    if options.quick:
        return Study("small-lm", True, 8, (2e-5, 2e-4, 2e-3), options.seeds(2), 20, 10)
    return Study("small-lm", True, 8, constants(PAPER_RATE, 1000 * PAPER_RATE, 13), options.seeds(3), 120, 40)


def minilm(options: Options) -> Study:
    """A classifier of chats, which has an accuracy."""
    if options.quick:
        return small_lm(options)._replace(classes=True)
    return Study("minilm", False, 8, (6e-6, 2e-5, 6e-5, 2e-4, 6e-4, 2e-3, 6e-3), options.seeds(3), 100, 50, True)


def smollm2(options: Options) -> Study:
    """A language model of 135 million weights."""
    if options.quick:
        return small_lm(options)
    return Study("smollm2", False, 1, (2e-5, 6e-5, 2e-4, 6e-4, 2e-3, 6e-3), options.seeds(2), 40, 20)


def run_name(method: str, rate: float, seed: int) -> str:
    """Of one run."""
    plain = {FULL_TUNING: "full", RECIPE: "LoRA-alpha", "LoRA+": "LoRA-plus"}.get(method, method)
    return f"{plain}-rate-{rate:g}-seed-{seed}"


def auto_name(alpha: float, seed: int) -> str:
    """Of one run of rule auto."""
    return f"auto-alpha-{alpha:g}-seed-{seed}"


def runs(study: Study) -> list[Run]:
    """Every method at every rate with every seed, then auto."""
    common = {name: getattr(study, name) for name in ("workload", "small", "batch", "steps", "every")}
    found = []
    for seed in study.seeds:
        for method, adapter in METHODS.items():
            for rate in study.rates:
                merge = method in MERGED
                given = {"adapter": adapter, "rule": "adamw", "lr": rate, "seed": seed, "merge": merge, **common}
                found.append(Run(run_name(method, rate, seed), train_and_merge, given))
        for alpha in AUTO_ALPHAS:
            adapter = {"rank": RANK, "alpha": alpha}
            given = {"adapter": adapter, "rule": "auto", "lr": None, "seed": seed, "merge": False, **common}
            found.append(Run(auto_name(alpha, seed), train_and_merge, given))
    return found


def train_and_merge(
    adapter: Mapping[str, Any] | None,
    rule: str,
    lr: float | None,
    workload: str,
    small: bool,
    batch: int,
    steps: int,
    every: int,
    seed: int,
    merge: bool,
) -> dict[str, Any]:
    """Train a model of a study and, if asked to, merge the adapters.

    Returns:
        ``validation`` (columns ``step`` and ``loss``), ``final_validation`` (None if it diverged), ``diverged``,
        ``eta`` (the last step size); ``accuracy`` on the held-out set at the end, None where there is none; and
        ``merged``: see `merging`; None if it was not asked for or the run diverged.
    """
    task = load_workload(workload, quick=small)
    model = task.model(None if adapter is None else AdapterSpec(**adapter), seed)
    seen = train_model(task, model, Recipe(rule, lr, steps, batch, seed, validate_every=every))
    known = {name: seen[name] for name in ("validation", "final_validation", "diverged")}
    merged = merging(task, model) if merge and not seen["diverged"] else None
    return {**known, "eta": seen["trace"]["eta"][-1], "accuracy": task.accuracy(model), "merged": merged}


def merging(workload: Workload, model: Any) -> dict[str, float]:
    """Held-out loss with all weights kept in bfloat16: adapters beside them, and merged into them.

    Args:
        workload: measures the loss.
        model: a PEFT model; left as it is.
    """
    beside, into = deepcopy(model), deepcopy(model).merge_and_unload()
    for one in (beside, into):
        with torch.no_grad():
            for name, weight in one.named_parameters():
                if "lora_" not in name:
                    weight.copy_(weight.bfloat16().float())
    return {"beside": workload.validation_loss(beside), "merged": workload.validation_loss(into)}


def losses(results: Mapping[str, Any], method: str, rate: float, study: Study) -> list[float]:
    """Held-out losses at the end, one a seed; infinite where the run diverged."""
    found = [results[run_name(method, rate, seed)]["final_validation"] for seed in study.seeds]
    return [math.inf if loss is None else float(loss) for loss in found]


def best_rate(results: Mapping[str, Any], method: str, study: Study) -> float:
    """The rate of lowest mean loss."""
    return min(study.rates, key=lambda rate: _mean(losses(results, method, rate, study)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
