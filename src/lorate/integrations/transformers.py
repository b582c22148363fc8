"""lorate in the transformers Trainer, and so in TRL's trainers."""

import math
import os
import warnings
from dataclasses import replace
from typing import Any, Self

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks
from lorate.errors import LorateError
from lorate.integrations.gradient_watch import GradientWatch
from lorate.integrations.loss_check import LossCheck
from lorate.integrations.loss_reader import LossReader, is_linear
from lorate.monitor import Alarm, Monitor
from lorate.optim import LoraOptimizer, Step, create_optimizer


class OptimizerFactory:
    """What ``Trainer(optimizer_cls_and_kwargs=(X, kwargs))`` calls as ``X()(model, **kwargs)``.

    The loss that some rules need reaches the optimizer through `LorateCallback`.
    """

    def __call__(self, model: nn.Module, **options: Any) -> LoraOptimizer:
        """Build the optimizer; options are those of `lorate.create_optimizer`."""
        return create_optimizer(model, **options)


class LorateCallback(TrainerCallback):
    """Read the loss, record every step, raise alarms, add to the Trainer's log.

    Added are ``eta``, ``stacked_norm`` and ``grad_norm``.

    Args:
        monitor: where the steps are recorded; one without a file if not given.

    Raises:
        LorateError: when training begins: ``max_grad_norm`` clips gradients that the rule must see whole, the Trainer
            does not run an optimizer of lorate, or it uses DataParallel. After the first step: the rule needs the loss,
            and what was read is not what the Trainer trains on.
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        self.monitor = monitor or Monitor()
        self._reader: LossReader | None = None
        self._watch: GradientWatch | None = None
        self._check = LossCheck()

    def first_in(self, trainer: Any) -> Self:
        """Add this callback before all others of a trainer, so that its loggers (wandb, ...) get the values too."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Check the arguments that spoil a rule, or that never reach it; begin to read the loss."""
        own = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(own, LoraOptimizer):
            raise LorateError(
                f"the Trainer runs {type(own).__name__}, not an optimizer of lorate; "
                "pass Trainer(..., **lorate.for_trainer(rule=...))"
            )
        if args.n_gpu > 1:
            raise LorateError(
                f"the Trainer would spread each batch over {args.n_gpu} GPUs with DataParallel, whose copies of the "
                "model no rule sees; start it with torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES=0"
            )
        if args.max_grad_norm and not own.rule.allows_clipping:
            raise LorateError(
                f"max_grad_norm={args.max_grad_norm} clips the gradient before rule {own.rule.name!r} sees it; "
                "set max_grad_norm=0"
            )
        for name in ("learning_rate", "weight_decay"):
            if getattr(args, name) != type(args).__dataclass_fields__[name].default:
                warnings.warn(
                    f"TrainingArguments.{name} does not reach lorate's optimizer; give lr= to lorate.for_trainer",
                    stacklevel=2,
                )
        self._reader = LossReader(model, own, is_linear=is_linear(args))
        self._watch = GradientWatch(model)
        scaler = getattr(optimizer, "scaler", None)
        if scaler is not None:
            self._reader.loss_scale = scaler.get_scale

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Train on from the last adapters."""
        assert self._reader is not None
        self._reader.optimizer.use_last()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Record the step; stop the run if the monitor says so.

        Between the steps of rule ``auto`` the averaged adapters are in the model: they are what is evaluated and saved.
        """
        assert self._reader is not None and self._watch is not None
        optimizer = self._reader.optimizer
        self._name_the_guilty(optimizer, self._watch)
        samples, tokens = self._reader.take()
        for alarm in self.monitor.update(optimizer, samples=samples, tokens=tokens):
            self.on_alarm(alarm)
        if optimizer.last is not None and self._check.add(optimizer.last):
            control.should_log = True
        optimizer.use_average()
        if self.monitor.should_stop:
            control.should_training_stop = True

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

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Add what the Trainer cannot know: it logs the multiplier, never the step size in force."""
        record = self.monitor.record
        if record is None or logs is None or "loss" not in logs:
            return
        assert self._reader is not None
        self._check.compare(logs["loss"], self._reader)
        values = {name: record[name] for name in ("eta", "stacked_norm", "grad_norm")}
        logs.update(values)
        state.log_history[-1].update(values)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the monitor's files and take the hooks off the model."""
        self.monitor.close()
        if self._reader is not None:
            self._reader.optimizer.finish()
        for hooked in (self._reader, self._watch):
            if hooked is not None:
                hooked.remove()


def _is_finite(step: Step) -> bool:
    return step.measurement.loss is None or math.isfinite(step.measurement.loss)


def for_trainer(
    rule: str = "auto", *, monitor: Monitor | str | os.PathLike[str] | None = None, **options: Any
) -> dict[str, Any]:
    """Arguments that make a transformers Trainer, or TRL's SFTTrainer, train with a rule of lorate.

    Args:
        rule: the rule.
        monitor: a `Monitor`, or the directory for one; None records in memory only.
        options: further options of `lorate.create_optimizer`, such as ``lr``.

    Returns:
        ``{"optimizer_cls_and_kwargs": ..., "callbacks": [...]}``.

    Examples:
        With the Trainer::

            args = TrainingArguments("out", max_grad_norm=0, lr_scheduler_type="constant")
            trainer = Trainer(model, args, train_dataset=data, **lorate.for_trainer())
    """
    watcher = monitor if isinstance(monitor, Monitor) else Monitor(monitor)
    return {
        "optimizer_cls_and_kwargs": (OptimizerFactory, {"rule": rule, **options}),
        "callbacks": [LorateCallback(watcher)],
    }
