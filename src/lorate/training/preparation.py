"""Load data and model, and put the adapters on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import LoadedData, LoadedModel, check_causal_data, load_data, load_model, quiet
from lorate.training.adapter import (
    adapter_folder,
    adapter_options,
    give_rows,
    keep_precise,
    new_adapter,
    open_adapter,
    with_own_tokenizer,
)
from lorate.training.config import TrainConfig
from lorate.training.processes import own_device

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Prepared:
    """All that a trainer needs.

    Attributes:
        config: the options, with what model and data decide filled in.
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


def prepare(config: TrainConfig, phase: Callable[[str], None] = lambda text: None) -> Prepared:
    """Load everything; the adapters' start depends on ``config.seed`` alone.

    Args:
        config: the options.
        phase: is told what goes on.

    Raises:
        LorateError: data or model cannot be used, see `lorate.tasks`, or the targets match no layer.
    """
    peft = require("peft", extra="hf")
    transformers = require("transformers", extra="hf")
    device = own_device(config.device)
    if device == "cpu" and "float16" in (config.autocast, config.quantize and config.dtype):
        raise LorateError("float16 on a CPU has no range for gradients; choose bfloat16, or leave --autocast out.")
    folder = None if config.adapter is None else adapter_folder(config.adapter)
    config = config if folder is None else _as_the_adapter(config, adapter_options(folder))
    phase("Reading the data")
    data = load_data(
        config.data,
        eval_spec=config.eval_data,
        kind=config.task,
        eval_fraction=config.eval_fraction,
        seed=config.seed,
    )
    transformers.set_seed(config.seed)
    phase("Loading the model")
    base = load_model(
        config.model,
        config.task,
        labels=data.labels,
        dtype=getattr(torch, config.dtype),
        device=device,
        quantize=config.quantize,
        attention=config.attention,
    )
    if folder is not None and config.task != "image-classification":
        base = with_own_tokenizer(base, folder)
    _set_up_tokenizer(config, base)
    check_weights(base.model)
    if config.task != "image-classification":
        for part in (data.train, data.eval):
            check_vocabulary(part, base.processor, base.model)
    if config.task == "causal-lm":
        check_positions(base.model, config.max_length)
        # with --train-on all the prompt counts too, so that one which fills a record leaves something to learn
        longest = config.max_length if config.train_on == "completion" else None
        for part in (data.train, data.eval):
            check_causal_data(part, data.record_kind, base.processor, max_length=longest)
    if config.quantize:
        peft.prepare_model_for_kbit_training(base.model, use_gradient_checkpointing=False)
    transformers.set_seed(config.seed)
    model = new_adapter(config, base) if folder is None else open_adapter(base, folder, trainable=True)
    keep_precise(model)
    return Prepared(config, data, base, model, device)


def _as_the_adapter(config: TrainConfig, own: dict[str, Any]) -> TrainConfig:
    """The options with the shape of an adapter that is there.

    Raises:
        LorateError: another shape was asked for.
    """
    for name, value in own.items():
        wanted = getattr(config, name)
        if name != "model" and wanted not in (getattr(TrainConfig, name), value):
            raise LorateError(f"{config.adapter} has {name} {value!r}, not {wanted!r}; leave {name} out.")
    return replace(config, **own | {"model": config.model or own["model"]})


def _set_up_tokenizer(config: TrainConfig, base: LoadedModel) -> None:
    """Chat template, end token and new tokens.

    Raises:
        LorateError: the template cannot be read, or there is no such token.
    """
    tokenizer, model = base.processor, base.model
    if config.chat_template is not None:
        try:
            tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise LorateError(f"chat_template {config.chat_template} cannot be read: {error}.") from None
    if config.add_tokens:
        tokenizer.add_tokens(config.add_tokens, special_tokens=True)
        with quiet():
            give_rows(model, max(tokenizer.convert_tokens_to_ids(config.add_tokens)))
    if config.end_token is not None:
        number = tokenizer.get_vocab().get(config.end_token)
        if number is None:
            raise LorateError(f"end_token: the tokenizer has no token {config.end_token!r}; see --add-tokens.")
        tokenizer.eos_token = config.end_token
        for settings in (model.config, model.generation_config):
            settings.eos_token_id = number


def positions(model: Any) -> int | None:
    """How many tokens a model has positions for; None where that has no limit, or is not known."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_positions(model: Any, max_length: int) -> None:
    """A text must not be longer than the model has positions.

    Raises:
        LorateError: ``max_length`` is beyond them.
    """
    most = positions(model)
    if most is not None and max_length > most:
        raise LorateError(
            f"max_length is {max_length}, and {model.name_or_path} has {most} positions: give --max-length {most} or "
            "less, and longer texts are cut there."
        )


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
