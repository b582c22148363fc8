"""Load data and model, and put the adapters on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import (
    PREFERENCES,
    EncodedData,
    Encoder,
    Judged,
    LoadedData,
    LoadedModel,
    check_device,
    check_pairs,
    cut_texts,
    encode_pairs,
    load_data,
    load_model,
    positions,
    quiet,
    text_limit,
)
from lorate.training.adapter import (
    give_rows,
    keep_precise,
    new_adapter,
    open_adapter,
    with_own_tokenizer,
)
from lorate.training.adapter_files import adapter_folder, as_the_adapter
from lorate.training.config import TrainConfig
from lorate.training.early import check_early, read_template
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
        device: where it is.
        encoded: the data as tokens, of which some count; None for classifiers.
        cut: texts of a classifier that are cut.
        packed: packed sequences of an epoch; None without packing.
    """

    config: TrainConfig
    data: LoadedData
    base: LoadedModel
    model: Any
    device: str
    encoded: EncodedData | None = None
    cut: int = 0
    packed: int | None = None

    @property
    def examples(self) -> int:
        """What the trainer draws from: sequences of tokens, or records."""
        return self.packed or len(self.encoded.train.rows if self.encoded else self.data.train)

    @property
    def judged(self) -> Judged:
        """What held-out figures are about."""
        if self.config.task != "causal-lm":
            return "classes"
        return "pairs" if self.data.record_kind in PREFERENCES else "tokens"

    @property
    def notes(self) -> list[str]:
        """Sentences about what was left out of the data, cut or taken together."""
        cut = f"{self.cut:,} of {len(self.data.train):,} texts are cut at the maximum length (--max-length)."
        return [*self.data.notes, *(self.encoded.notes if self.encoded else [cut] if self.cut else [])]


def prepare(config: TrainConfig, phase: Callable[[str], None] = lambda text: None) -> Prepared:
    """Load everything; the adapters' start depends on ``config.seed`` alone.

    Args:
        config: the options.
        phase: hears what is going on.

    Raises:
        LorateError: see `check_early`; data or model cannot be used, see `lorate.tasks`; or the targets match no layer.
    """
    check_early(config)
    peft = require("peft", extra="hf")
    transformers = require("transformers", extra="hf")
    device = own_device(config.device)
    check_device(device)
    config.check_precision(device)
    _check_loggers(config.report_to)
    folder = None if config.adapter is None else adapter_folder(config.adapter)
    given, config = config, config if folder is None else as_the_adapter(config, folder)
    phase("Reading the data")
    data = load_data(
        config.data,
        eval_spec=config.eval_data,
        kind=config.task,
        eval_fraction=config.eval_fraction,
        seed=config.seed,
        columns=config.columns,
        max_records=config.max_records,
    )
    given.check_kind(data.record_kind)
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
    phase("Tokenising")
    encoded = None
    if data.record_kind in PREFERENCES:
        data = numbered_pairs(config, data, base)
    elif config.task == "causal-lm":
        encoded = encode(config, data, base)
    cut = 0
    if config.task == "sequence-classification":
        cut = cut_texts(data.train, base.processor, text_limit(config.max_length, base.processor, base.model))
    if config.quantize:
        peft.prepare_model_for_kbit_training(base.model, use_gradient_checkpointing=False)
    transformers.set_seed(config.seed)
    model = new_adapter(config, base) if folder is None else open_adapter(base, folder, trainable=True)
    keep_precise(model)
    return Prepared(config, data, base, model, device, encoded, cut)


def _check_loggers(report_to: str) -> None:
    """See that transformers knows the logger, and that its package is there.

    Raises:
        LorateError: it does not, or it is not.
    """
    integrations = require("transformers.integrations.integration_utils", extra="hf")
    wanted = [] if report_to == "none" else [report_to]
    try:
        for callback in integrations.get_reporting_integration_callbacks(wanted):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        raise LorateError(f"report_to {report_to}: {' '.join(str(error).split()).rstrip('.')}.") from error


def _set_up_tokenizer(config: TrainConfig, base: LoadedModel) -> None:
    """Chat template, end token and new tokens.

    Raises:
        LorateError: the template cannot be read, there is no such token, or a new one is there already.
    """
    tokenizer, model = base.processor, base.model
    if config.chat_template is not None:
        tokenizer.chat_template = read_template(config.chat_template)
    if config.add_tokens:
        if known := [token for token in config.add_tokens if token in tokenizer.get_vocab()]:
            raise LorateError(f"add_tokens: {known[0]!r} is a token of {base.name} already; leave it out.")
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


def encode(config: TrainConfig, data: LoadedData, base: LoadedModel) -> EncodedData:
    """The records to train on, and the held-out ones that are evaluated, as tokens.

    Raises:
        LorateError: nothing is left to learn, or a sequence is longer than the model's positions.
    """
    encoder = Encoder(base.processor, data.record_kind, config.train_on, config.max_length)
    held_out = data.eval.select(range(min(len(data.eval), config.eval_examples)))
    encoded = EncodedData(encoder, encoder.encode(data.train, data.places[0]), encoder.encode(held_out, data.places[1]))
    check_positions(base, config.max_length, max(encoded.train.counts.longest, encoded.eval.counts.longest))
    return encoded


def numbered_pairs(config: TrainConfig, data: LoadedData, base: LoadedModel) -> LoadedData:
    """Preference records as they go to TRL's DPOTrainer, which makes the tokens; see `with_pairs`.

    Raises:
        LorateError: the chat template refuses a record.
    """
    encoder = Encoder(base.processor, data.record_kind, config.train_on, config.max_length)
    held_out = data.eval.select(range(min(len(data.eval), config.eval_examples)))
    parts = zip((data.train, held_out), data.places, strict=True)
    train, held_out = (check_pairs(encoder, part, places) for part, places in parts)
    return replace(data, train=train, eval=held_out)


def with_pairs(prepared: Prepared, trainer: Any) -> Prepared:
    """The same with the tokens that TRL's DPOTrainer made of preference records; others have theirs already.

    Raises:
        LorateError: nothing is left to learn, or a sequence is longer than the model's positions.
    """
    if prepared.judged != "pairs":
        return prepared
    config, data, base = prepared.config, prepared.data, prepared.base
    encoder = Encoder(base.processor, data.record_kind, config.train_on, config.max_length)
    train = encode_pairs(encoder, trainer.train_dataset, len(data.train))
    held_out = encode_pairs(encoder, trainer.eval_dataset, len(data.eval))
    check_positions(base, config.max_length, max(train.counts.longest, held_out.counts.longest))
    return replace(prepared, encoded=EncodedData(encoder, train, held_out))


def check_positions(base: LoadedModel, max_length: int, longest: int) -> None:
    """No sequence may be longer than the model has positions.

    Raises:
        LorateError: ``longest``, cut to ``max_length``, is.
    """
    most = positions(base.model)
    if most is not None and min(max_length, longest) > most:
        raise LorateError(
            f"{base.name} has positions for {most} tokens, and the data hold {longest} in one sequence: "
            f"--max-length {most} is the most it can take."
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
        values = [value for key, value in record.items() if isinstance(value, str | list) and key != "tools"]
        texts = [[value] if isinstance(value, str) else [turn["content"] for turn in value] for value in values]
        for text in (text for found in texts for text in found):
            highest = max(tokenizer(text)["input_ids"], default=0)
            if highest >= rows:
                raise LorateError(
                    f"The tokenizer of {model.name_or_path} makes token {highest} of {text[:40]!r}, but the model has "
                    f"embeddings for {rows} tokens only: model and tokenizer do not belong together."
                )
