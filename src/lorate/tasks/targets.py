"""Which modules LoRA should adapt, and which ones it should leave to full training."""

from torch import nn

from lorate.extras import require


def head_modules(model: nn.Module, new_parameters: set[str]) -> list[str]:
    """The modules of a classifier that are trained in full beside LoRA: PEFT's ``modules_to_save``.

    These are the children beside the backbone (transformers names it in ``base_model_prefix``) and any
    module inside the backbone whose weights the checkpoint did not have, such as BERT's pooler.

    Args:
        model: a transformers classifier.
        new_parameters: names of the parameters that were initialised at random while loading.
    """
    backbone = str(getattr(model, "base_model_prefix", ""))
    heads = [
        name for name, child in model.named_children() if name != backbone and any(True for _ in child.parameters())
    ]
    inside = {name.rpartition(".")[0] for name in new_parameters if name.split(".")[0] == backbone}
    return heads + sorted(inside)


def suggested_targets(model: nn.Module, heads: list[str]) -> list[str]:
    """Names of the modules to adapt, in the form PEFT's ``target_modules`` takes.

    PEFT's own table of model types comes first (``q_proj`` and ``v_proj`` for Llama, ``query`` and
    ``value`` for BERT). A model that is not in it gets every linear and convolution layer outside the
    heads, by the last part of its name; by its whole name where the last part is only a number.

    Args:
        model: a transformers model.
        heads: what `head_modules` found; never adapted.
    """
    known = require("peft.utils.constants", extra="hf").TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    output = getattr(model, "get_output_embeddings", lambda: None)()
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and module is not output
        and not any(name == head or name.startswith(f"{head}.") for head in heads)
    ]
    from_table = known.get(getattr(getattr(model, "config", None), "model_type", None))
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if isinstance(from_table, list) and present.issuperset(from_table):
        return list(from_table)
    ends = [(name, name.rpartition(".")[2]) for name in layers]
    return sorted({name if end.isdecimal() else end for name, end in ends})
