"""Load data and model, and put the adapters on."""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from lorate import ranks
from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import LoadedData, LoadedModel, check_causal_data, load_data, load_model
from lorate.training.config import TrainConfig
from lorate.training.processes import own_device

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TASK_TYPES = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS", "image-classification": None}


@dataclass(frozen=True)
class Prepared:
    """All that a trainer needs.

    Attributes:
        config: the options, with the number of steps filled in.
        data: training and held-out records.
        base: the base model with its processor.
        model: the PEFT model.
        device: where it stands.
    """

    config: TrainConfig
    data: LoadedData
    base: LoadedModel
    model: Any
    device: str


def prepare(config: TrainConfig, processes: int | None = None) -> Prepared:
    """Load everything; the adapters' start depends on ``config.seed`` alone.

    Args:
        config: the options.
        processes: how many train together; those that are here if not given.

    Raises:
        LorateError: data or model cannot be used, see `lorate.tasks`, or the targets match no layer.
    """
    peft = require("peft", extra="hf")
    transformers = require("transformers", extra="hf")
    device = own_device(config.device)
    data = load_data(
        config.data,
        eval_spec=config.eval_data,
        kind=config.task,
        eval_fraction=config.eval_fraction,
        seed=config.seed,
    )
    transformers.set_seed(config.seed)
    base = load_model(config.model, config.task, labels=data.labels, dtype=getattr(torch, config.dtype), device=device)
    check_weights(base.model)
    if config.task != "image-classification":
        for part in (data.train, data.eval):
            check_vocabulary(part, base.processor, base.model)
    if config.task == "causal-lm":
        # with --train-on all the prompt counts too, so that one which fills a record leaves something to learn
        longest = config.max_length if config.train_on == "completion" else None
        for part in (data.train, data.eval):
            check_causal_data(part, data.record_kind, base.processor, max_length=longest)
    targets = config.targets or base.suggested_targets
    check_targets(base.model, targets)
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        modules_to_save=base.head or None,
        task_type=TASK_TYPES[config.task],
    )
    transformers.set_seed(config.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LoRA adapter added to ConvNd layer with groups")
        try:
            model = peft.get_peft_model(base.model, lora)
        except ValueError as error:
            raise LorateError(f"PEFT cannot adapt these layers: {str(error).splitlines()[0]}") from error
    samples = config.batch_size * config.accumulate * (processes or ranks.world_size())
    return Prepared(config.with_steps(len(data.train), samples), data, base, model, device)


def check_weights(model: Any) -> None:
    """Weights that are not finite make every loss NaN, so that no step would ever be taken.

    Raises:
        LorateError: the model file is damaged; the weight is named.
    """
    for name, weight in model.named_parameters():
        # smallest and largest are not finite if any value is not; in one pass and without a copy of the weight
        if weight.dtype in FLOATS and weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():
            raise LorateError(
                f"{model.name_or_path or 'the model'}: {name} holds values that are not finite, so every loss would "
                "be NaN: the model file is damaged, or the weights do not fit the dtype; fetch it again, or choose "
                "another --dtype."
            )


def check_vocabulary(part: Any, tokenizer: Any, model: Any) -> None:
    """Each token of the data must have an embedding; a tokenizer may know more tokens than the model.

    Raises:
        LorateError: a text holds a token that the model has no embedding for.
    """
    rows = model.get_input_embeddings().num_embeddings
    if max(tokenizer.get_vocab().values()) < rows:
        return
    for record in part:
        messages = [message["content"] for message in record.get("messages", [])]
        for text in [*messages, *(record[key] for key in ("prompt", "completion", "text") if key in record)]:
            highest = max(tokenizer(text)["input_ids"], default=0)
            if highest >= rows:
                raise LorateError(
                    f"The tokenizer of {model.name_or_path} makes token {highest} of {text[:40]!r}, but the model has "
                    f"embeddings for {rows} tokens only: model and tokenizer do not belong together."
                )


def check_targets(model: Any, targets: list[str]) -> None:
    """Each name must be the end of some layer's path, as PEFT matches them.

    Raises:
        LorateError: a name matches nothing; the layers that there are are listed.
    """
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            leaves = [name for name, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv2d")]
            ends = sorted({re.sub(r"^.*\.(?=[^.\d])", "", name) for name in leaves})
            raise LorateError(
                f"targets: no layer of {model.name_or_path} is called {target!r}; it has: {', '.join(ends[:20])}."
            )
