"""Load a base model, with everything a LoRA run needs to know about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from lorate.errors import LorateError, MissingExtraError
from lorate.extras import require
from lorate.tasks.device import check_device
from lorate.tasks.embedded import SMOLLM2
from lorate.tasks.kinds import TaskKind
from lorate.tasks.model_limits import check_config, check_size
from lorate.tasks.model_source import AUTO_CLASS, ModelSource, find_model, loading_lines
from lorate.tasks.quiet import quiet
from lorate.tasks.targets import head_modules, suggested_targets

T = TypeVar("T")
NO_CODE = {"trust_remote_code": False}
"""Said to every loader: left out, transformers asks at the terminal whether a checkpoint's own code may run."""


@dataclass(frozen=True)
class LoadedModel:
    """A base model ready for PEFT.

    Attributes:
        model: the transformers model, on its device.
        processor: tokenizer, or image processor.
        name: for humans and run files; accepted again by `load_model` (a GGUF file: its file name). It is the model's
            own name, too, which PEFT writes into ``adapter_config.json`` as ``base_model_name_or_path``.
        load_snippet: Python lines that load this base model without lorate.
        suggested_targets: names for PEFT's ``target_modules``.
        head: names for PEFT's ``modules_to_save``: the classification head; empty for a language model.
    """

    model: Any
    processor: Any
    name: str
    load_snippet: str
    suggested_targets: list[str]
    head: list[str]


def load_model(
    spec: str | None,
    kind: TaskKind,
    *,
    labels: list[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    quantize: str | None = None,
    attention: str | None = None,
) -> LoadedModel:
    """Load a base model and its tokenizer or image processor.

    A classification head that the checkpoint lacks, or has for another number of classes, is drawn from
    torch's global random generator: seed that first. No code from a checkpoint is ever run.

    Args:
        spec: hub id, local directory, GGUF file, or None for the embedded SmolLM2-135M-Instruct.
        kind: the task.
        labels: names of the classes; needed for classification and only there.
        dtype: of the weights.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        quantize: ``"4bit"`` or ``"8bit"``: weights of the linear layers, by bitsandbytes; computed with in ``dtype``.
        attention: transformers' ``attn_implementation``.

    Raises:
        LorateError: no such model, not a model for this task, files that cannot be read, no network, no
            such device; always one sentence.
    """
    if kind not in AUTO_CLASS:
        raise LorateError(f"Unknown task {kind!r}: expected one of {', '.join(AUTO_CLASS)}.")
    if (kind == "causal-lm") != (labels is None):
        raise LorateError("Class labels are needed for classification, and only there.")
    target = check_device(device)
    source = find_model(spec, kind)
    if source.gguf_file:
        require("gguf", extra="hf")
    if quantize:
        require("bitsandbytes", extra="quantize")
    more: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    with quiet():
        if quantize and source.gguf_file:
            with TemporaryDirectory() as folder:  # transformers quantises while it loads, but not from this format
                plain, _ = _load(source.name, kind, lambda: _model(source, kind, labels, dtype, more))
                plain.save_pretrained(folder)
                again = replace(source, place=folder, gguf_file=None)
                more |= _quantised(quantize, dtype, device)
                model, new = _load(source.name, kind, lambda: _model(again, kind, labels, dtype, more))
        else:
            more |= _quantised(quantize, dtype, device) if quantize else {}
            model, new = _load(source.name, kind, lambda: _model(source, kind, labels, dtype, more))
        part = "image processor" if kind == "image-classification" else "tokenizer"
        processor = _load(f"the {part} of {source.name}", kind, lambda: _processor(source, kind))
    _keep_differentiable(model)
    if kind == "causal-lm" and new:
        raise LorateError(f"{source.name} is not a causal language model: it has no weights for {min(new)}.")
    pad = None if kind == "image-classification" else _ensure_padding(model, processor, source.name)
    if kind != "causal-lm":
        # Some classifiers take num_items_in_batch and ignore it (ResNet does), and Trainer then leaves out
        # the division by the accumulation steps. Every classifier's own loss is a mean over the batch.
        model.accepts_loss_kwargs = False
    _rename(model, processor, source.name)
    head = [] if kind == "causal-lm" else head_modules(model, new)
    return LoadedModel(
        model=model if quantize else model.to(target),
        processor=processor,
        name=source.name,
        load_snippet=loading_lines(source, kind, str(dtype).removeprefix("torch."), len(labels or []), pad),
        suggested_targets=suggested_targets(model, head),
        head=head,
    )


def positions(model: Any) -> int | None:
    """How many tokens a model has positions for; None where that has no limit, or is not known."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _load(what: str, kind: TaskKind, loader: Callable[[], T]) -> T:
    try:
        return loader()
    except (LorateError, MissingExtraError):
        raise
    except Exception as error:  # a damaged checkpoint raises a dozen unrelated types, down to bare Exception
        raise LorateError(_reason(what, kind, error)) from error


def _reason(what: str, kind: TaskKind, error: Exception) -> str:
    first = re.split(r"\n|\.\s", str(error).strip())[0].rstrip(".:") or type(error).__name__
    if first.startswith("Unrecognized configuration class"):
        return f"{what} is not a model for {kind}: transformers has no such version of this architecture."
    if "contains custom code" in first or "references custom code" in first:
        return (
            f"{what} needs code of its own, and lorate runs no code from a model: choose a model of an architecture "
            "that transformers knows."
        )
    if first.startswith("Weights only load failed"):
        return (
            f"{what} could not be loaded: its weights are a damaged file or a pickle with more than tensors in it, "
            "which may run code: get the model as .safetensors."
        )
    if "couldn't connect" in first.lower():
        return (
            f"{what} could not be fetched from the Hugging Face hub (no connection, and not in the local "
            "cache): give a local model directory or a .gguf file."
        )
    return f"{what} could not be loaded: {first}."


def _processor(source: ModelSource, kind: TaskKind) -> Any:
    transformers = require("transformers", extra="hf")
    if kind == "image-classification":
        return transformers.AutoImageProcessor.from_pretrained(source.place, **NO_CODE)
    if source.gguf_file:
        return transformers.AutoTokenizer.from_pretrained(source.place, gguf_file=source.gguf_file, **NO_CODE)
    return transformers.AutoTokenizer.from_pretrained(source.place, **NO_CODE)


def _quantised(bits: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    config = require("transformers", extra="hf").BitsAndBytesConfig
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return {"quantization_config": config(**four if bits == "4bit" else {"load_in_8bit": True}), "device_map": device}


def _keep_differentiable(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights on a CPU at the first evaluation.

    It does so for a faster kernel that has no backward pass, and does not unpack them when training goes on: the
    adapters then get a wrong gradient, or none.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _model(
    source: ModelSource, kind: TaskKind, labels: list[str] | None, dtype: torch.dtype, more: dict[str, Any]
) -> tuple[Any, set[str]]:
    """The model, and the names of the parameters that the checkpoint did not fill."""
    transformers = require("transformers", extra="hf")
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, **NO_CODE, **more}
    if source.gguf_file:
        # dequantize: Trainer refuses to train, and save_pretrained to save, a model marked as quantised
        config = transformers.GgufConfig(dequantize=True)
        options |= {"gguf_file": source.gguf_file, "quantization_config": config}
    if labels is not None:
        options["num_labels"] = len(labels)
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
        options["ignore_mismatched_sizes"] = True
    if source.name != SMOLLM2:
        files = {"gguf_file": source.gguf_file} if source.gguf_file else {}
        check_config(transformers.PreTrainedConfig.get_config_dict(source.place, **files)[0], source.name)
    auto = getattr(transformers, AUTO_CLASS[kind])
    if not source.gguf_file:
        given = {"dtype": dtype} | NO_CODE
        check_size(
            lambda: auto.from_config(transformers.AutoConfig.from_pretrained(source.place, **NO_CODE), **given),
            source.name,
        )
    model, info = auto.from_pretrained(source.place, **options)
    return model, set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}


def _ensure_padding(model: Any, tokenizer: Any, name: str) -> str | None:
    """Give the tokenizer a padding token if it has none; returns which one was borrowed.

    Borrowing is safe: padded places carry attention 0 and label -100 by position, never by token id. The
    end token comes first since the model knows it and a right-padded text ends there anyway; a new token
    would need a new embedding row, which a frozen model cannot learn.
    """
    borrowed = None
    if tokenizer.pad_token is None:
        borrowed = next((kind for kind in ("eos_token", "unk_token") if getattr(tokenizer, kind)), None)
        if borrowed is None:
            raise LorateError(f"The tokenizer of {name} has no padding, end or unknown token to pad with.")
        tokenizer.pad_token = getattr(tokenizer, borrowed)
    config = model.config.get_text_config()
    if config.pad_token_id is None:  # sequence classifiers find the last real token by it
        config.pad_token_id = tokenizer.pad_token_id
    return borrowed


def _rename(model: Any, processor: Any, name: str) -> None:
    """Replace the path the model was read from by its name: PEFT writes it into the adapter's files."""
    model.name_or_path = name
    model.config._name_or_path = name
    if hasattr(processor, "name_or_path"):
        processor.name_or_path = name
