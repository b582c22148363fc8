"""The trainers of transformers and TRL, set up for a run."""

from typing import Any

from lorate.extras import require
from lorate.integrations.transformers import LorateCallback, OptimizerFactory
from lorate.runs import RunDirectory
from lorate.tasks import ImageCollator, quiet, text_collator, tokenised
from lorate.training.config import TrainConfig
from lorate.training.preparation import Prepared


def build_trainer(config: TrainConfig, prepared: Prepared, run: RunDirectory, callback: LorateCallback) -> Any:
    """A Trainer (an SFTTrainer for language models) under the run's rule, with a constant schedule.

    Args:
        config: the options.
        prepared: data and model.
        run: its ``checkpoints`` get the checkpoints.
        callback: records the steps; it comes before all other callbacks.
    """
    options = {"rule": config.rule, "lr": config.lr, "smoothness": config.smoothness}
    shared: dict[str, Any] = {
        "model": prepared.model,
        "processing_class": prepared.base.processor,
        "optimizer_cls_and_kwargs": (OptimizerFactory, options),
    }
    with quiet():
        build = _language_trainer if config.task == "causal-lm" else _classifier_trainer
        trainer = build(config, prepared, _arguments(config, prepared, run), shared)
    transformers = require("transformers", extra="hf")
    trainer.remove_callback(transformers.PrinterCallback)  # the command line has its own progress
    callback.first_in(trainer)
    return trainer


def _arguments(config: TrainConfig, prepared: Prepared, run: RunDirectory) -> dict[str, Any]:
    on_cpu = prepared.device == "cpu"
    return {
        "output_dir": str(run.checkpoints),
        "max_steps": config.steps,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "max_grad_norm": 0,  # the rules need the true gradient
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_interval,
        "save_total_limit": None,  # `Sealer` deletes by the number of steps, the Trainer by the time on the clock
        "report_to": config.report_to,
        "seed": config.seed,
        "data_seed": config.seed,
        "use_cpu": on_cpu,
        "bf16": config.dtype == "bfloat16" and not on_cpu,
        "fp16": config.dtype == "float16" and not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "no",
    }


def _language_trainer(
    config: TrainConfig, prepared: Prepared, arguments: dict[str, Any], shared: dict[str, Any]
) -> Any:
    trl = require("trl", extra="hf")
    data = prepared.data
    settings = trl.SFTConfig(
        **arguments,
        max_length=config.max_length,
        completion_only_loss=config.train_on == "completion" and data.record_kind == "prompt-completion",
        gradient_checkpointing=False,
    )
    held_out = data.eval.select(range(min(len(data.eval), config.eval_examples)))
    _keep_to_one_device(settings)
    return trl.SFTTrainer(args=settings, train_dataset=data.train, eval_dataset=held_out, **shared)


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
        train, held = (tokenised(part, processor, config.max_length) for part in (data.train, held_out))
    settings = transformers.TrainingArguments(**arguments, remove_unused_columns=config.task != "image-classification")
    _keep_to_one_device(settings)
    return transformers.Trainer(args=settings, train_dataset=train, eval_dataset=held, data_collator=collator, **shared)


def _keep_to_one_device(settings: Any) -> None:
    """Without processes of their own, more GPUs would mean DataParallel, whose copies of the model no rule sees."""
    settings._n_gpu = min(settings.n_gpu, 1)
