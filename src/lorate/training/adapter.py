"""The adapter: a new one from the options, or one that is there to go on from."""

import contextlib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import LoadedModel, quiet
from lorate.tasks.models import NO_CODE
from lorate.training.config import ALL_LINEAR, TrainConfig, is_pattern

TASK_TYPES = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS", "image-classification": None}


def new_adapter(config: TrainConfig, base: LoadedModel) -> Any:
    """Put the adapter of the options on; new tokens have the embedding trained in full, and the output with it.

    Raises:
        LorateError: the targets match no layer, or PEFT refuses them.
    """
    peft, model = require("peft", extra="hf"), base.model
    targets: Any = config.targets or base.suggested_targets
    if config.targets == [ALL_LINEAR]:
        targets = ALL_LINEAR
    elif len(targets) == 1 and is_pattern(targets[0]):
        targets = targets[0]
    if targets != ALL_LINEAR:
        check_targets(model, targets, config.task)
    saved, ends = [*base.head, *(config.modules_to_save or [])], _ends(model)
    check_names(model, saved, "modules_to_save")
    if config.add_tokens:
        saved += [name for name in (ends[:1] if is_tied(model) else ends) if name not in saved]
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        exclude_modules=config.exclude,
        modules_to_save=saved or None,
        init_lora_weights=True if config.init == "default" else config.init,
        use_rslora=config.rslora,
        use_dora=config.dora,
        ensure_weight_tying=is_tied(model) and bool({*saved} & {*ends}),
        task_type=TASK_TYPES[config.task],
    )
    with _refusals():
        return peft.get_peft_model(model, lora)


def open_adapter(base: LoadedModel, folder: Path, *, trainable: bool) -> Any:
    """Put an adapter on that is there.

    Raises:
        LorateError: it does not fit the model, or is damaged.
    """
    peft = require("peft", extra="hf")
    with _refusals():
        try:
            return peft.PeftModel.from_pretrained(base.model, str(folder), is_trainable=trainable)
        except RuntimeError as error:  # shapes that do not agree
            raise ValueError(f"{folder} was made for another model than {base.name}") from error
        except (ValueError, TypeError, NotImplementedError):
            raise
        except Exception as error:  # safetensors raises a type of its own, PEFT whatever wrong entries lead to
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise LorateError(f"The adapter in {folder} is damaged: {reason[:300]}.") from error


def with_own_tokenizer(base: LoadedModel, folder: Path) -> LoadedModel:
    """The base with the tokenizer that lies beside an adapter; tokens that it added get their rows."""
    if not (folder / "tokenizer_config.json").is_file():
        return base
    with quiet():
        tokenizer = require("transformers", extra="hf").AutoTokenizer.from_pretrained(folder, **NO_CODE)
        give_rows(base.model, max(tokenizer.get_vocab().values()) if tokenizer.get_added_vocab() else 0)
    return replace(base, processor=tokenizer)


def give_rows(model: Any, highest: int) -> None:
    """Make the embedding, and the output, large enough for a token."""
    if highest >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(highest + 1)


def check_targets(model: Any, targets: list[str] | str, task: str) -> None:
    """Each name must be the end of some layer's path, as PEFT matches them; a pattern must match a whole path.

    Raises:
        LorateError: something matches nothing, or a layer that cannot be adapted; the layers that there are are listed.
    """
    if isinstance(targets, str):
        try:
            found = [name for name, _ in model.named_modules() if re.fullmatch(targets, name)]
        except re.error as error:
            raise LorateError(f"targets: {targets!r} is not a regular expression: {error}.") from None
        if not found:
            raise LorateError(f"targets: no layer of {model.name_or_path} matches {targets!r}; try '.*{targets}'.")
    else:
        found = check_names(model, targets, "targets")
    inputs, output = _end(model, "input"), _end(model, "output")
    for name in found:
        module = model.get_submodule(name)
        if task == "causal-lm" and module is output:
            raise LorateError(
                f"targets: {name} cannot have an adapter, because TRL computes the loss from its weight directly; "
                "leave it out, or train it in full with --modules-to-save."
            )
        if is_tied(model) and module is inputs:
            raise LorateError(
                f"targets: {name} shares its weight with the output layer, so an adapter on it alone is lost or "
                "doubled when it is merged; leave it out, train it in full with --modules-to-save, or new rows with "
                "--add-tokens."
            )


def check_names(model: Any, wanted: list[str], option: str) -> list[str]:
    """All paths that end with one of the names.

    Raises:
        LorateError: a name matches nothing; the layers that there are are listed.
    """
    names = [name for name, _ in model.named_modules()]
    found = []
    for target in wanted:
        matches = [name for name in names if name == target or name.endswith(f".{target}")]
        if not matches:
            output = _end(model, "output")
            layers = [
                name
                for name, module in model.named_modules()
                if type(module).__name__ in ("Linear", "Conv2d", "Linear4bit", "Linear8bitLt")
                and (option != "targets" or module is not output)
            ]
            ends = sorted({re.sub(r"^.*\.(?=[^.\d])", "", name) for name in layers})
            raise LorateError(
                f"{option}: no layer of {model.name_or_path} is called {target!r}; it has: {', '.join(ends[:20])}."
            )
        found += matches
    return found


def is_tied(model: Any) -> bool:
    """Whether the output layer shares its weight with the embedding."""
    inputs, output = _end(model, "input"), _end(model, "output")
    return inputs is not None and output is not None and output.weight is inputs.weight


def keep_precise(model: Any) -> None:
    """Adapters in float32: TRL rounds them to bfloat16 on a quantised base, and their small steps with them."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def _end(model: Any, which: str) -> Any:
    """The embedding, or the output layer; None for a model that has no such."""
    try:
        return getattr(model, f"get_{which}_embeddings")()
    except (AttributeError, NotImplementedError):  # image models, and plain modules
        return None


def _ends(model: Any) -> list[str]:
    """Names of the embedding and of the output layer, as far as there are such."""
    ends = [_end(model, "input"), _end(model, "output")]
    paths = {id(module): name for name, module in model.named_modules()}
    return [paths[id(end)].rpartition(".")[2] for end in ends if end is not None]


@contextlib.contextmanager
def _refusals() -> Any:
    """What PEFT refuses, in one sentence; what it warns of is checked here before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LoRA adapter added to ConvNd layer with groups")
        try:
            yield
        except (ValueError, TypeError, NotImplementedError) as error:
            raise LorateError(f"PEFT cannot adapt these layers: {str(error).splitlines()[0]}") from error
