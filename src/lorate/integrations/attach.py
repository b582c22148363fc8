"""Give a Trainer of transformers or TRL an optimizer of lorate."""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import nn

from lorate.errors import LorateError
from lorate.integrations.callback import LorateCallback
from lorate.integrations.gradient_watch import GradientWatch
from lorate.integrations.loss_tap import LossTap
from lorate.integrations.settings import check_trainer, say_changes, say_ignored, settings
from lorate.monitor import Monitor
from lorate.optim import LoraOptimizer, create_optimizer
from lorate.optim.layout import checked_groups
from lorate.rules import Rule, make_rule

log = logging.getLogger("lorate")


def attach(
    trainer: Any,
    rule: str | Rule = "auto",
    *,
    monitor: Monitor | str | os.PathLike[str] | None = None,
    callback: LorateCallback | None = None,
    **options: Any,
) -> Any:
    """Let a Trainer train with a rule of lorate; call it once, before ``trainer.train()``.

    It works with every trainer of transformers and TRL that computes its loss in ``compute_loss``: SFT, DPO, GRPO,
    Reward, KTO, Seq2Seq, your own. While the Trainer trains, ``max_grad_norm`` is 0 and the schedule is constant where
    these have their default values (not under rule ``constant``); all else that it does stays as it is.

    Args:
        trainer: the Trainer, with no optimizer of its own.
        rule: the rule.
        monitor: a `Monitor`, or the directory for the records; None keeps them in memory only. A directory goes on
            with ``trainer.train(resume_from_checkpoint=...)``.
        callback: records the steps instead of a plain `LorateCallback`; brings its own monitor.
        options: further options of `lorate.create_optimizer`, such as ``lr``.

    Returns:
        The trainer.

    Raises:
        LorateError: the trainer has an optimizer or a schedule already, is attached already, clips gradients because
            you chose so, or trains in a way that no rule can see (DataParallel, DeepSpeed); the rule needs a closure;
            an option is wrong. When training: the trainer never calls ``compute_loss`` and the rule needs the loss;
            ``max_grad_norm`` was set meanwhile, or ``trainer.model``.

    Examples:
        With any Trainer::

            trainer = DPOTrainer(model, args=DPOConfig("out"), train_dataset=data)
            lorate.attach(trainer, monitor="runs/dpo")
            trainer.train()
    """
    _check_given(callback, monitor, options)
    made = make_rule(rule, options.get("smoothness"))
    check_trainer(trainer, made)
    checked_groups((), made, options.get("lr"))
    own = LorateCallback(monitor) if callback is None else callback
    attachment = Attachment(trainer, made, {"rule": rule, **options}, own)
    say_changes(trainer.args, made)
    say_ignored(trainer.args, made, attachment.ignored)
    return trainer


def _check_given(callback: Any, monitor: Any, options: dict[str, Any]) -> None:
    known = [name for name in signature(create_optimizer).parameters if name not in ("model", "rule")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise LorateError(f"lorate.attach has no option {unknown[0]!r}; beside rule and monitor: {', '.join(known)}")
    if callback is None:
        return
    if monitor is not None:
        raise LorateError("callback= has a monitor of its own: give monitor= to the callback, not to lorate.attach")
    if not isinstance(callback, LorateCallback):
        raise LorateError(f"callback= takes a LorateCallback, got {callback!r}; others go to trainer.add_callback")
    if hasattr(callback, "begin_with"):
        raise LorateError("the callback belongs to another trainer; make a LorateCallback for each")


class OptimizerFactory:
    """What a Trainer calls as ``X()(model, **kwargs)``."""

    def __call__(self, model: nn.Module, **options: Any) -> LoraOptimizer:
        """Build the optimizer; options are those of `lorate.create_optimizer`."""
        return create_optimizer(model, **options)


class Attachment:
    """What a Trainer is given; its methods ``train``, ``compute_loss`` and ``log`` go through here.

    Args:
        trainer: the Trainer.
        rule: the rule.
        options: of `lorate.create_optimizer`.
        callback: records the steps.

    Attributes:
        ignored: arguments that were warned of.
    """

    def __init__(self, trainer: Any, rule: Rule, options: dict[str, Any], callback: LorateCallback) -> None:
        self._trainer, self._rule, self._callback = trainer, rule, callback
        self._tap = LossTap(trainer, trainer.compute_loss)
        self._watch: GradientWatch | None = None
        self._optimizer: LoraOptimizer | None = None
        self._is_replaced = False
        self._trained: set[int] = set()
        self.ignored: set[str] = set()
        callback.begin_with = self.begin
        trainer.lorate_attachment = self
        trainer.optimizer_cls_and_kwargs = (OptimizerFactory, options)
        _shadow(trainer, "train", self._train)
        _shadow(trainer, "log", self._log)
        _shadow(trainer, "compute_loss", self._compute_loss)

    def begin(self, model: nn.Module, optimizer: Any) -> tuple[LoraOptimizer, LossTap, GradientWatch]:
        """Training begins, perhaps again after it ran out of memory.

        Raises:
            LorateError: the Trainer runs another optimizer, or another model than the optimizer's.
        """
        own = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(own, LoraOptimizer):
            raise LorateError(
                f"{type(self._trainer).__name__} makes its own optimizer, {type(own).__name__}, and does not ask for "
                "lorate's: it cannot be attached"
            )
        self._trained = _trained(model)
        if self._trained.isdisjoint(_trained(self._trainer.model_wrapped)):
            raise LorateError(
                "trainer.model was replaced, but the Trainer still trains the model that it was built with; build a "
                "Trainer for the new model and attach that"
            )
        say_ignored(self._trainer.args, self._rule, self.ignored)  # a search for hyperparameters sets them late
        self._let_go()
        own.zero_grad()  # what an earlier try has left of a step
        self._optimizer = own
        self._watch = GradientWatch(model)
        scaler = getattr(optimizer, "scaler", None)
        self._tap.begin(own, None if scaler is None else scaler.get_scale)
        return own, self._tap, self._watch

    def _train(self, train: Callable[..., Any], *args: Any, **options: Any) -> Any:
        callbacks = self._trainer.callback_handler.callbacks
        callbacks[:] = [self._callback, *(other for other in callbacks if other is not self._callback)]
        if args[0] if args else options.get("resume_from_checkpoint"):
            self._trainer.optimizer = None  # what the checkpoint lacks is not taken from a later step
        elif self._optimizer is not None and self._must_start_over(self._optimizer):
            log.warning("lorate starts over: the adapters are not those that the last training left.")
            self._trainer.optimizer = None
        status = "failed"
        with _changed(self._trainer.args, settings(self._trainer.args, self._rule)):
            try:
                result = train(*args, **options)
                status = "finished"
                return result
            except KeyboardInterrupt:
                status = "interrupted"
                raise
            finally:
                self._let_go()
                if self._optimizer is not None:
                    # before the end the Trainer may have loaded the best checkpoint
                    self._is_replaced = self._callback.adapters_changed(self._optimizer)
                    self._optimizer.finish()
                    self._callback.note_adapters(self._optimizer)
                self._callback.end(status)

    def _must_start_over(self, optimizer: LoraOptimizer) -> bool:
        """Whether other adapters are in the model now, or other parameters are trainable."""
        model = self._trainer.model
        if model is None:  # optuna deletes it between its trials; the Trainer makes another model and optimizer
            return False
        return self._trained != _trained(model) or self._is_replaced or self._callback.adapters_changed(optimizer)

    def _compute_loss(self, compute: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._tap(*args, **options)

    def _log(self, log: Callable[..., Any], logs: dict[str, Any], *args: Any, **options: Any) -> Any:
        return log({**logs, **self._callback.values()} if "loss" in logs else logs, *args, **options)

    def _let_go(self) -> None:
        self._tap.end()
        if self._watch is not None:
            self._watch.remove()
            self._watch = None


def _trained(model: nn.Module) -> set[int]:
    return {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def _shadow(trainer: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Let calls of a method go to a function that gets the method first."""
    method = getattr(trainer, name)
    setattr(trainer, name, functools.wraps(method)(functools.partial(replacement, method)))


@contextmanager
def _changed(args: Any, values: dict[str, Any]) -> Iterator[None]:
    """Other arguments inside."""
    before = {name: getattr(args, name) for name in values}
    for name, value in values.items():
        setattr(args, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(args, name, value)
