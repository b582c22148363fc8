"""The trainers of transformers and TRL, set up for a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorate import ranks
from lorate.errors import LorateError
from lorate.extras import require
from lorate.integrations.settings import check_trainer
from lorate.rules import make_rule
from lorate.tasks import ImageCollator, quiet, text_collator, text_limit, tokenised
from lorate.training.adapter import keep_precise
from lorate.training.config import TrainConfig
from lorate.training.preparation import Prepared, prepare, with_pairs
from lorate.training.processes import main_first, together


def assemble(
    config: TrainConfig, processes: int | None = None, phase: Callable[[str], None] = lambda text: None
) -> tuple[Prepared, Any]:
    """Data and model, and a trainer that took them; the number of steps is filled in.

    Args:
        config: the options.
        processes: how many train together; those that are here if not given.
        phase: hears what is going on.

    Raises:
        LorateError: something cannot be used, as `prepare` and `build_trainer` say.
    """
    prepared = main_first(lambda: prepare(config, phase))
    phase("Setting up the trainer")
    with together(), TemporaryDirectory() as place:
        trainer = build_trainer(prepared, Path(place))
    check_trainer(trainer, make_rule(config.rule, config.smoothness))
    samples = config.batch_size * config.accumulate * (processes or ranks.world_size())
    prepared = with_pairs(prepared, trainer)
    packed = len(trainer.train_dataset) if config.packing else None
    prepared = replace(prepared, packed=packed)
    config = prepared.config.with_steps(prepared.examples, samples)
    trainer.args.max_steps, trainer.args.save_steps = config.step_count, config.checkpoint_interval
    return replace(prepared, config=config), trainer


def build_trainer(prepared: Prepared, place: Path) -> Any:
    """A Trainer (SFT for language models, DPO for preferences) with a constant schedule; see `lorate.attach`.

    Args:
        prepared: options, data and model.
        place: a directory that is there, or is made; see `move`.

    Raises:
        LorateError: the Trainer refuses model, data or options.
    """
    config = prepared.config
    shared: dict[str, Any] = {
        "model": prepared.model,
        "processing_class": prepared.base.processor,
    }
    with quiet():
        build = {"tokens": _language_trainer, "pairs": _preference_trainer, "classes": _classifier_trainer}[
            prepared.judged
        ]
        try:
            trainer = build(config, prepared, _arguments(config, prepared, place), shared)
        except LorateError:
            raise
        except ValueError as error:
            reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
            raise LorateError(f"{type(error).__name__} of the Trainer: {reason}.") from error
    transformers = require("transformers", extra="hf")
    keep_precise(prepared.model)
    trainer.remove_callback(transformers.PrinterCallback)  # the command line has its own progress
    return trainer


def move(trainer: Any, place: Path) -> None:
    """Let a trainer write its checkpoints elsewhere."""
    trainer.args.output_dir = str(place)


def _arguments(config: TrainConfig, prepared: Prepared, place: Path) -> dict[str, Any]:
    on_cpu = prepared.device == "cpu"
    return {
        "output_dir": str(place),
        "max_steps": config.steps or 1,  # see `assemble`
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "max_grad_norm": 0,  # the rules need the true gradient
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_total_limit": None,  # `Sealer` deletes by the number of steps, the Trainer by the time on the clock
        "report_to": config.report_to,
        "seed": config.seed,
        "data_seed": config.seed,
        "use_cpu": on_cpu,
        "bf16": "bfloat16" in (config.autocast, not on_cpu and not config.autocast and config.dtype),
        "fp16": "float16" in (config.autocast, not on_cpu and not config.autocast and config.dtype),
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if config.gradient_checkpointing else None,
        "train_sampling_strategy": "group_by_length" if config.group_by_length else "random",
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "no",
    }


def _language_trainer(
    config: TrainConfig, prepared: Prepared, arguments: dict[str, Any], shared: dict[str, Any]
) -> Any:
    trl = require("trl", extra="hf")
    assert prepared.encoded is not None
    settings = trl.SFTConfig(
        **arguments,
        max_length=config.max_length,
        completion_only_loss=False,  # the labels say what counts
        dataset_kwargs={"skip_prepare_dataset": not config.packing},
        packing=config.packing,
        eval_packing=False,
    )
    _keep_to_one_device(settings)
    train, held_out = prepared.encoded.train.rows, prepared.encoded.eval.rows
    return trl.SFTTrainer(args=settings, train_dataset=train, eval_dataset=held_out, **shared)


def _preference_trainer(
    config: TrainConfig, prepared: Prepared, arguments: dict[str, Any], shared: dict[str, Any]
) -> Any:
    """A DPOTrainer; its reference is the base, or the adapter that training goes on from."""
    trl = require("trl", extra="hf")
    arguments = arguments | {"per_device_eval_batch_size": 1}  # the loss of each pair, not of a batch
    settings = trl.DPOConfig(**arguments, max_length=config.max_length, beta=config.beta)
    _keep_to_one_device(settings)
    data = prepared.data
    trainer = trl.DPOTrainer(args=settings, train_dataset=data.train, eval_dataset=data.eval, **shared)
    if config.adapter is None:
        # TRL's copy of the adapter at the start, which is the base: without it, the base is the reference
        prepared.model.delete_adapter("ref")
    return trainer


def _classifier_trainer(
    config: TrainConfig, prepared: Prepared, arguments: dict[str, Any], shared: dict[str, Any]
) -> Any:
    transformers = require("transformers", extra="hf")
    data, processor = prepared.data, prepared.base.processor
    held_out = data.eval.select(range(min(len(data.eval), config.eval_examples)))
    if config.task == "image-classification":
        collator: Any = ImageCollator(processor, getattr(prepared.base.model.config, "num_channels", 3))
        train, held = data.train, held_out
    else:
        collator = text_collator(processor)
        limit = text_limit(config.max_length, processor, prepared.base.model)
        train, held = (tokenised(part, processor, limit) for part in (data.train, held_out))
    settings = transformers.TrainingArguments(**arguments, remove_unused_columns=config.task != "image-classification")
    _keep_to_one_device(settings)
    return transformers.Trainer(args=settings, train_dataset=train, eval_dataset=held, data_collator=collator, **shared)


def _keep_to_one_device(settings: Any) -> None:
    """Without processes of their own, more GPUs would mean DataParallel, whose copies of the model no rule sees."""
    settings._n_gpu = min(settings.n_gpu, 1)
