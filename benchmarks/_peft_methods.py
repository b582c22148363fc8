"""A tiny language model wrapped in every method of PEFT that it can be wrapped in."""

import warnings
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 32
UNFIT = {
    "CPT": "needs its own data format",
    "SHADOW": "its own forward failed in this tiny model",
    "XLORA": "mixes saved adapters",
}
"""Methods that this model is not tried with."""
TARGETS = ["q_proj", "v_proj", "down_proj"]
OPTIONS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 100, "init_r": 4, "target_r": 2},
    "ADAPTION_PROMPT": {"adapter_layers": 1, "adapter_len": 4},
    "BOFT": {"boft_block_size": 4},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "FOURIERFT": {"n_frequency": 20},
    "C3A": {"block_size": 4},
    "HRA": {"r": 4},
    "IA3": {"feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 1},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "P_TUNING": {"num_virtual_tokens": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "TRAINABLE_TOKENS": {"token_indices": list(range(8))},
    "VBLORA": {"vector_length": 2, "num_vectors": 8},
    "WAVEFT": {"n_frequency": 20},
}
NO_TARGETS = {
    *("ADAPTION_PROMPT", "CARTRIDGE", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"),
    "TRAINABLE_TOKENS",
}
LORA = {"r": 4, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
VARIANTS: dict[str, dict[str, Any]] = {
    "LORA, rsLoRA": {"use_rslora": True},
    "LORA, DoRA": {"use_dora": True},
    "LORA, bias": {"lora_bias": True},
    "LORA, all-linear and head": {"target_modules": "all-linear", "modules_to_save": ["lm_head"]},
    "LORA, embeddings": {"target_modules": [*TARGETS, "embed_tokens"]},
    "LORA, aLoRA": {"alora_invocation_tokens": [1]},
    "LORA, parameters": {"target_modules": [], "target_parameters": ["mlp.down_proj.weight"]},
}


def base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def names() -> list[str]:
    """Every method, variants of LoRA, two adapters at once, and no adapter at all."""
    return [
        *(kind.value for kind in peft.PeftType if kind.value not in UNFIT),
        *VARIANTS,
        "LORA, two adapters",
        "LORA, frozen A",
        "no adapter",
    ]


def inputs(name: str, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the model gets: some methods want to know the task, aLoRA the word at which it begins."""
    if name == "LORA, aLoRA":
        tokens = torch.cat((torch.ones_like(tokens[:, :1]), tokens), dim=1)
    given = {"input_ids": tokens, "labels": tokens, "attention_mask": torch.ones_like(tokens)}
    has_tasks = name in ("MULTITASK_PROMPT_TUNING", "POLY")
    return given | ({"task_ids": torch.zeros(len(tokens), dtype=torch.int64)} if has_tasks else {})


def build(name: str) -> Any:
    """The model under one of them.

    Raises:
        Exception: whatever PEFT says of a model that it cannot wrap.
    """
    model = base()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "no adapter":
            return model
        if name in VARIANTS:
            return peft.get_peft_model(model, peft.LoraConfig(**{**LORA, **VARIANTS[name]}))
        if name == "LORA, two adapters":
            wrapped = peft.get_peft_model(model, peft.LoraConfig(**LORA))
            wrapped.add_adapter("other", peft.LoraConfig(**LORA))
            wrapped.base_model.set_adapter(["default", "other"])
            return wrapped
        if name == "LORA, frozen A":
            wrapped = peft.get_peft_model(model, peft.LoraConfig(**LORA))
            for parameter_name, parameter in wrapped.named_parameters():
                parameter.requires_grad_("lora_B" in parameter_name)
            return wrapped
        kind = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(name)]
        options = {"task_type": "CAUSAL_LM", **OPTIONS.get(name, {})}
        if name not in NO_TARGETS:
            options.setdefault("target_modules", TARGETS)
        return peft.get_peft_model(model, kind(**options))
