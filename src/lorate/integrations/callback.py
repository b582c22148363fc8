"""What happens at each step of a Trainer that lorate is attached to."""

import logging
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks, sharding
from lorate.errors import LorateError
from lorate.integrations.gradient_watch import GradientWatch
from lorate.integrations.loss_tap import LossTap
from lorate.integrations.settings import check_clipping
from lorate.monitor import Alarm, Monitor
from lorate.optim import LoraOptimizer, Step

log = logging.getLogger("lorate")


class LorateCallback(TrainerCallback):
    """Record every step, raise alarms, show the average between the steps. Give it to `lorate.attach`.

    Args:
        monitor: where the steps are recorded: a `Monitor`, or a directory for one, which goes on with the Trainer's
            checkpoint; None keeps them in memory only.

    Attributes:
        begin_with: what `lorate.attach` sets: called when training begins, gives optimizer, losses and gradients.
    """

    begin_with: Callable[[Any, Any], tuple[LoraOptimizer, LossTap, GradientWatch]]

    def __init__(self, monitor: Monitor | str | os.PathLike[str] | None = None) -> None:
        if not isinstance(monitor, Monitor | str | os.PathLike | None):
            raise LorateError(f"monitor= takes a Monitor, or a directory for the records, got {monitor!r}")
        self._monitor = monitor if isinstance(monitor, Monitor) else None
        self._directory = None if isinstance(monitor, Monitor) else monitor
        self._optimizer: LoraOptimizer | None = None
        self._versions: list[int] = []
        self._is_blind = False

    @property
    def monitor(self) -> Monitor:
        """Where the steps are recorded."""
        if self._monitor is None:
            self._monitor = Monitor(self._directory)
        return self._monitor

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Begin to read the loss, and to record where the optimizer is."""
        self._optimizer, self._tap, self._watch = self.begin_with(model, optimizer)
        steps = self._optimizer.param_groups[0]["steps"]
        if state.global_step and not steps:
            warnings.warn(
                f"the checkpoint of step {state.global_step} holds no state of the optimizer (save_only_model=True "
                f"leaves it out): rule {self._optimizer.rule.name!r} starts over from its adapters",
                stacklevel=2,
            )
        if self._monitor is None:
            self._monitor = Monitor(self._directory, resume_at=steps or None)
        self._monitor.go_on(steps)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Train on from the last adapters."""
        assert self._optimizer is not None
        self._optimizer.use_last()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Refuse a gradient that was clipped, and a Trainer whose loss cannot be read.

        Raises:
            LorateError: ``max_grad_norm`` was set meanwhile; the rule needs the loss, and ``compute_loss`` was not
                called.
        """
        assert self._optimizer is not None
        rule = self._optimizer.rule
        check_clipping(args, rule)
        if self._tap.has_seen_a_loss:
            return
        if "loss" in rule.needs:
            raise LorateError(
                f"{self._tap.trainer_name} does not call compute_loss, so that rule {rule.name!r} cannot see its loss; "
                "use rule 'auto' or 'normalized', which do not need it"
            )
        if not self._is_blind:
            self._is_blind = True
            log.warning("%s does not call compute_loss: the records have no losses.", self._tap.trainer_name)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Record the step; stop the run if the monitor says so.

        Between the steps of rule ``auto`` the averaged adapters are in the model: they are what is evaluated and saved.
        """
        assert self._optimizer is not None
        self._name_the_guilty(self._optimizer, self._watch)
        samples, tokens = self._tap.take()
        for alarm in self.monitor.update(self._optimizer, samples=samples, tokens=tokens):
            self.on_alarm(alarm)
        self._optimizer.use_average()
        self.note_adapters(self._optimizer)
        if self.monitor.should_stop:
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say so if the adapters are where they were."""
        assert self._optimizer is not None
        last, group = self._optimizer.last, self._optimizer.param_groups[0]
        if last is not None and not group["sum_eta"] and ranks.is_main():
            why = "lr was 0" if last.measurement.gradient_norm else "the gradient was 0"
            warnings.warn(
                f"Nothing was trained: no step moved the adapters ({last.skipped or why} at the last of "
                f"{group['steps']}).",
                stacklevel=2,
            )

    @staticmethod
    def _name_the_guilty(optimizer: LoraOptimizer, watch: GradientWatch) -> None:
        """A loss that is not finite spoils every gradient; where it is finite, one of them went wrong first."""
        if optimizer.last is not None and optimizer.last.skipped is not None and _is_finite(optimizer.last):
            fault = watch.take_fault()
            optimizer.last = replace(optimizer.last, skipped=fault or optimizer.last.skipped)
        watch.reset()

    def on_alarm(self, alarm: Alarm) -> None:
        """What happens at an alarm: a Python warning, of the main process; override it to do more."""
        if ranks.is_main():
            warnings.warn(f"{alarm.message} {alarm.remedy}", stacklevel=2)

    def values(self) -> dict[str, float]:
        """What the Trainer's log gets beside its own: it knows the multiplier, never the step size in force."""
        record = self.monitor.record
        return {} if record is None else {name: record[name] for name in ("eta", "stacked_norm", "grad_norm")}

    def adapters_changed(self, optimizer: LoraOptimizer) -> bool:
        """Whether somebody else moved what is averaged, since it was noted."""
        return optimizer.is_averaged and self._versions != _versions(optimizer)

    def note_adapters(self, optimizer: LoraOptimizer) -> None:
        """Note what is in the model."""
        self._versions = _versions(optimizer)

    def end(self, status: str) -> None:
        """Close the monitor's files."""
        if self._monitor is not None:
            self._monitor.end(status)


def _versions(optimizer: LoraOptimizer) -> list[int]:
    parameters = [p.detach() for group in optimizer.param_groups for p in group["params"]]
    return [part._version for part in sharding.local(parameters)]


def _is_finite(step: Step) -> bool:
    return step.measurement.loss is None or math.isfinite(step.measurement.loss)
