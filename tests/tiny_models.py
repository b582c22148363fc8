"""Tiny models and data made on the fly, as fixtures; no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported

import gguf
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

WORDS = ["<unk>", "<s>", "</s>", "good", "bad", "film", "book", "a", "b", "c", "d", "e", "one", "two", "three", ":"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Offline even where another test imported the libraries first."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def word_tokenizer(**special):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def save_llama(path, **options):
    torch.manual_seed(0)
    config = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    LlamaForCausalLM(LlamaConfig(**config | options)).save_pretrained(path)
    word_tokenizer(unk_token="<unk>", bos_token="<s>", eos_token="</s>").save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory):
    """A masked language model: no pooler and no classification head in the checkpoint."""
    path = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForMaskedLM(config).save_pretrained(path)
    word_tokenizer(unk_token="<unk>", pad_token="<unk>", model_max_length=32).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def resnet_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny-resnet"
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4)
    ResNetForImageClassification(config).save_pretrained(path)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def gguf_path(tmp_path_factory):
    """A two-layer Llama in the GGUF format."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    width, inner = 16, 32
    tokens = ["<unk>", "<s>", "</s>", "<|endoftext|>", "Ġ", "Ċ", *"abcdefghijklmnopqrstuvwxyz", "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    for layer in range(2):
        block = f"blk.{layer}."
        shapes |= {block + name: (width,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {block + name: (width, width) for name in ("attn_q", "attn_output")}
        shapes |= {block + name: (8, width) for name in ("attn_k", "attn_v")}
        shapes |= {block + "ffn_gate": (inner, width), block + "ffn_up": (inner, width)}
        shapes |= {block + "ffn_down": (width, inner)}
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype("float32") * 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of six different images of several modes."""
    root = tmp_path / "pictures"
    for label, level in (("dark", 20), ("light", 180)):
        (root / label).mkdir(parents=True)
        for number in range(6):
            mode = ("RGB", "L", "RGBA")[number % 3]
            Image.new("RGB", (12, 10), (level + number, level, level)).convert(mode).save(
                root / label / f"{number}.png"
            )
    return root
