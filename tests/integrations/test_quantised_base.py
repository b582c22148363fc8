"""QLoRA: a base that bitsandbytes has quantised trains in the Trainer as the same base in full precision does."""

import pytest
import torch
from test_transformers import arguments
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

import lorate

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Llama on disk; wide enough for the layers to be quantised."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, initializer_range=0.1, **sizes)).save_pretrained(folder)
    return folder


def losses(base, out, rule, quantisation=None, **options):
    """Training losses of thirty steps, and the class of an adapted layer."""
    load = {} if quantisation is None else {"quantization_config": quantisation, "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(base, **load)
    if quantisation is not None:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    rows = [{"input_ids": row, "labels": row} for row in (torch.arange(32)[:, None] + torch.arange(12)) % 32]
    settings = TrainingArguments(**arguments(out, max_steps=30))
    trainer = lorate.attach(Trainer(model, settings, train_dataset=rows), rule, **options)
    trainer.train()
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return history, type(lorate.find_pairs(model)[0].layer).__name__


@pytest.mark.parametrize(("bits", "layer"), [(4, "Linear4bit"), (8, "Linear8bitLt")])
@pytest.mark.parametrize(("rule", "options"), [("auto", {}), ("adaptive", {"lr": 30.0})])
def test_a_quantised_base_trains_like_a_full_one(base, tmp_path, bits, layer, rule, options):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes")
    quantisation = BitsAndBytesConfig(
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    found, kind = losses(base, tmp_path / "quantised", rule, quantisation, **options)
    full, _ = losses(base, tmp_path / "full", rule, **options)
    assert kind == layer
    assert found[-1] < 0.8 * found[0]
    assert found[-1] == pytest.approx(full[-1], rel=0.1)
