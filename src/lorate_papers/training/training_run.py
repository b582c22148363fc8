"""One training run of an experiment: a workload, its adapters, a rule or a baseline, and what was seen on the way."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lorate.sweep import Divergence
from lorate_papers.training.peak_memory import PeakMemory
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.steppers import make_stepper
from lorate_papers.training.trace import Step, Trace
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

SKIPPED_STEPS = 10
"""So many skipped steps in a row end a run: nothing will change any more."""

Values = dict[str, Any]


def train_under_rule(
    workload: str,  # name, see `lorate_papers.workloads.WORKLOADS`
    adapter: Mapping[str, Any] | None,  # fields of `AdapterSpec`; None trains all weights, with a baseline only
    rule: str,  # as in `Recipe`, like the next three
    lr: float | None,  # the constant
    steps: int,  # at most
    batch: int | None,  # examples a step
    seed: int,  # of the adapters' start and of the data order
    *,
    quick: bool = False,  # the small form of the workload
    data: str | None = None,  # other data for the workload
    model: str | None = None,  # another model for the workload
    **more: Any,  # further fields of `Recipe`
) -> Values:
    """Train a workload once, from plain values to plain values: the function of an experiment's `Run`.

    Runs with the same workload, adapter and seed start from the same weights and see the same batches in the same
    order, whatever the rule.

    Returns:
        What `train_model` returns.

    Raises:
        LorateError: the workload, the adapter, the rule or the baseline cannot be had.
    """
    task = load_workload(workload, quick=quick, data=data, model=model)
    spec = None if adapter is None else AdapterSpec(**adapter)
    return train_model(task, task.model(spec, seed), Recipe(rule, lr, steps, batch, seed, **more))


def train_model(
    task: Workload,  # gives batches and losses
    model: nn.Module,  # from ``task.model``
    recipe: Recipe,  # the rule and how long
    *,
    # called with the optimizer before the first step, for instance `lorate.Monitor.watch`
    on_start: Callable[[Any], object] | None = None,
    # called after every step that was taken, for instance to project the adapters
    after_step: Callable[[], None] | None = None,
) -> Values:
    r"""Train a model in place and tell what was seen.

    Returns:
        Plain values:

        - ``rule``, ``lr``, ``seed``, ``steps`` (taken), ``trainable`` (number of trained parameters);
        - ``trace``: columns of `lorate_papers.training.trace.Trace`, and ``thinning`` in words;
        - ``validation``: columns ``step`` and ``loss``; ``final_validation``, None if the run diverged;
        - ``first_loss``; ``final_loss``: of a full-batch run the last one, else the mean of the last tenth of the
          steps; None if the run diverged;
        - ``diverged``; ``stopped``: why the run ended early or is lost, None if neither; ``skipped`` steps;
          ``rises``: steps after which the loss was higher;
        - ``seconds_per_step``: median, of processor time, which other work on the machine does not change, without
          validation and records; ``peak_mib``: what the process' memory grew by at its highest, None where the system
          does not tell.

    Raises:
        LorateError: the rule or the baseline cannot be had, or the batch is larger than the training set.
    """
    stepper = make_stepper(task, model, recipe)
    if on_start is not None:
        on_start(stepper.optimizer)
    batches = task.batches(recipe.batch, recipe.seed)
    trace, seconds = Trace(recipe.steps, recipe.keep), 0.0
    watch, every = Watch(), recipe.validate_every
    validation: dict[str, list[float]] = {"step": [], "loss": []}

    def validate(step: int) -> None:
        with stepper.averaged():
            validation["step"].append(step)
            validation["loss"].append(task.validation_loss(model))

    with PeakMemory() as memory:
        if every is not None:
            validate(0)
        for step in range(1, recipe.steps + 1):
            batch = next(batches)
            began = time.process_time()
            outcome = stepper.step(batch)
            seconds += time.process_time() - began - outcome.aside
            trace.add(outcome, seconds)
            if watch.must_stop(outcome):
                break
            if after_step is not None and outcome.skipped is None:
                after_step()
            if every is not None and step % every == 0:
                validate(step)
    if not watch.diverged and validation["step"][-1:] != [trace.steps]:
        validate(trace.steps)
    if not watch.diverged and not math.isfinite(validation["loss"][-1]):
        watch.lose("the held-out loss at the end is not finite")  # the last step did it: no batch was seen since
    final = None if watch.diverged else trace.final_loss(1 if recipe.batch is None else max(1, recipe.steps // 10))
    return {
        "rule": recipe.rule,
        "lr": recipe.lr,
        "seed": recipe.seed,
        "steps": trace.steps,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "trace": trace.columns(),
        "thinning": trace.thinning,
        "validation": validation,
        "final_validation": None if watch.diverged else validation["loss"][-1],
        "first_loss": trace.first_loss,
        "final_loss": final,
        "diverged": watch.diverged,
        "stopped": watch.reason,
        "skipped": trace.skipped,
        "rises": trace.rises,
        "seconds_per_step": trace.seconds_per_step,
        "peak_mib": memory.grown_mib,
    }


class Watch:
    """Sees when a run has diverged or does not move.

    Attributes:
        diverged: whether the run is lost.
        reason: why it has to end; None as long as it need not.
    """

    def __init__(self) -> None:
        self.diverged = False
        self.reason: str | None = None
        self._first: float | None = None
        self._divergence, self._skipped = Divergence(), 0

    def lose(self, reason: str) -> None:
        """Count the run as diverged."""
        self.diverged, self.reason = True, reason

    def must_stop(self, step: Step) -> bool:
        """Whether the run ends after this step; `reason` and `diverged` then say why."""
        if self._first is None:
            self._first = step.loss
        fault = self._divergence.fault(step.loss)
        self._skipped = 0 if step.skipped is None else self._skipped + 1
        if not math.isfinite(step.loss) or not math.isfinite(step.grad_sq):
            self.lose("the loss or its gradient is not finite")
        elif fault is not None:
            self.lose(fault)
        elif self._skipped == SKIPPED_STEPS:
            self.diverged = step.loss > self._first
            self.reason = f"{SKIPPED_STEPS} steps in a row were skipped: {step.skipped}"
        return self.reason is not None


def lost_above_the_start(run: Values) -> Values:
    """The run, as one that diverged if it ended above the held-out loss it began with.

    >>> run = {"diverged": False, "validation": {"loss": [2.0, 3.0]}, "final_validation": 3.0, "final_loss": 2.5}
    >>> lost_above_the_start(run)["final_loss"] is None
    True
    """
    if not run["diverged"] and run["final_validation"] <= run["validation"]["loss"][0]:
        return run
    return {**run, "diverged": True, "final_validation": None, "final_loss": None}
