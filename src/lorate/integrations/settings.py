"""Which arguments of a Trainer spoil a rule, and which never reach it."""

import dataclasses
import logging
import warnings
from typing import Any

from lorate.errors import LorateError
from lorate.rules import Rule

log = logging.getLogger("lorate")

_OF_ADAMW = (
    "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "optim", "optim_args",
    "optim_target_modules",
)  # fmt: skip


def check_trainer(trainer: Any, rule: Rule) -> None:
    """Refuse what cannot be trained with a rule.

    Raises:
        LorateError: see `lorate.attach`.
    """
    for name in ("train", "compute_loss", "callback_handler", "args"):
        if not hasattr(trainer, name):
            raise LorateError(f"expected a Trainer of transformers or TRL, got {type(trainer).__name__}")
    if hasattr(trainer, "lorate_attachment"):
        raise LorateError(
            "the trainer is attached already: call lorate.attach once, and trainer.train() as often as needed"
        )
    if trainer.optimizer is not None or trainer.optimizer_cls_and_kwargs is not None:
        given = trainer.optimizer or trainer.optimizer_cls_and_kwargs[0]
        name = getattr(given, "__name__", type(given).__name__)
        raise LorateError(
            f"the trainer has an optimizer already, {name}; leave optimizers= and optimizer_cls_and_kwargs= out, "
            "lorate.attach builds one"
        )
    if trainer.lr_scheduler is not None:
        raise LorateError(
            f"the trainer has a schedule already, {type(trainer.lr_scheduler).__name__}, of another optimizer; leave "
            "optimizers= out and choose one by lr_scheduler_type"
        )
    if "closure" in rule.needs:
        raise LorateError(
            f"rule {rule.name!r} tries steps and needs a closure, which no Trainer has; use 'majorizer' or 'auto'"
        )
    if getattr(trainer, "is_deepspeed_enabled", False):
        raise LorateError(
            "DeepSpeed merges parameters into flat partitions, in which no rule can find A and B; train data-parallel "
            "(DDP), or with FSDP2 (fsdp_version: 2 in accelerate)"
        )
    if trainer.args.n_gpu > 1:
        raise LorateError(
            f"the Trainer would spread each batch over {trainer.args.n_gpu} GPUs with DataParallel, whose copies of "
            "the model no rule can see; start it with torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES=0"
        )
    settings(trainer.args, rule)


def settings(args: Any, rule: Rule) -> dict[str, Any]:
    """Values that arguments must have while training, where they have their defaults.

    Raises:
        LorateError: the gradient is clipped, and not by default.
    """
    if rule.allows_clipping:
        return {}
    changes: dict[str, Any] = {}
    if args.max_grad_norm:
        if args.max_grad_norm != _default(args, "max_grad_norm"):
            raise LorateError(
                f"max_grad_norm={args.max_grad_norm} clips the gradient before rule {rule.name!r} sees it; set "
                "max_grad_norm=0"
            )
        changes["max_grad_norm"] = 0.0
    if args.lr_scheduler_type == _default(args, "lr_scheduler_type"):
        # the kind of thing that the default is, with the warm-up that was asked for
        name = "constant_with_warmup" if args.get_warmup_steps(1000) else "constant"
        if args.lr_scheduler_type != name:
            changes["lr_scheduler_type"] = type(args.lr_scheduler_type)(name)
    return changes


def say_changes(args: Any, rule: Rule) -> None:
    """Say what is changed, and warn of samples that are used again."""
    changed = [f"{name}={getattr(value, 'value', value)}" for name, value in settings(args, rule).items()]
    if changed:
        log.warning(
            "lorate trains with %s: rule %r needs the whole gradient and finds its step sizes itself.",
            " and ".join(changed), rule.name,
        )  # fmt: skip
    if "last-line" in rule.needs and getattr(args, "num_iterations", 1) > 1:
        warnings.warn(
            f"num_iterations={args.num_iterations} trains on the same samples again, and rule {rule.name!r} judges a "
            "step by samples that it has not seen; set num_iterations=1, or use rule 'normalized'",
            stacklevel=3,
        )


def say_ignored(args: Any, rule: Rule, said: set[str]) -> None:
    """Warn of arguments that were set and never reach the optimizer.

    Args:
        args: of the Trainer.
        rule: the rule.
        said: names that were warned of; gets the new ones.
    """
    names = [n for n in _OF_ADAMW if hasattr(args, n) and getattr(args, n) != _default(args, n) and n not in said]
    if names:
        said.update(names)
        of_rule = f"rule {rule.name!r} finds its step sizes and its direction itself"
        if rule.name != "auto":
            of_rule = f"the constant of rule {rule.name!r} is lr= of lorate.attach"
        warnings.warn(
            f"lorate's optimizer does not take {', '.join(names)} from {type(args).__name__}: {of_rule}",
            stacklevel=3,
        )


def check_clipping(args: Any, rule: Rule) -> None:
    """Refuse a step whose gradient was clipped.

    Raises:
        LorateError: ``max_grad_norm`` is not what it was when training began.
    """
    if args.max_grad_norm and not rule.allows_clipping:
        raise LorateError(
            f"max_grad_norm was set to {args.max_grad_norm} while training, which clips the gradient before rule "
            f"{rule.name!r} sees it; leave it out of callbacks and of the search for hyperparameters"
        )


def _default(args: Any, name: str) -> Any:
    field = type(args).__dataclass_fields__[name]
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()
