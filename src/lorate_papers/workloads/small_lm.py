"""``small-lm``: a byte-level Llama that has read chat, to be fine-tuned on Python code."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from lorate.calibration.plan import SMALL_MODEL
from lorate.errors import LorateError
from lorate.extras import require
from lorate_papers.workloads.cache import Weights, cached_weights, committed_weights
from lorate_papers.workloads.chat import chat_texts
from lorate_papers.workloads.documents import Document, document_texts, packed, split_and_packed
from lorate_papers.workloads.pretraining import Schedule, pretrain
from lorate_papers.workloads.tensor_workload import TensorWorkload

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer but the last, which gives the scores."""
BEGIN = 256
"""The token that begins a document; the others are the values of a byte."""
QUICK_FILE = SMALL_MODEL / "model.safetensors"


@dataclass(frozen=True)
class Shape:
    """Size of the model, its sequences and its pre-training."""

    width: int  # of the hidden states
    inner: int  # of the perceptrons
    layers: int  # their number
    heads: int  # of the attention
    length: int  # tokens of a sequence
    held_out: int  # sequences of the held-out set, at least
    schedule: Schedule  # of the pre-training


FULL = Shape(128, 256, 4, 4, 128, 96, Schedule(steps=1000, batch=16, lr=4e-3))
QUICK = Shape(64, 160, 2, 2, 64, 64, Schedule(steps=1500, batch=32, lr=6e-3))


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    Args:
        quick: the small model, whose weights come with the package; otherwise the model is pre-trained on the first
            call, which takes some minutes, and kept in the cache.
        data: text in any form that ``lorate train`` reads, instead of the problems of HumanEval.
        model: must be left out: another model has another vocabulary, see ``smollm2``.

    Raises:
        LorateError: a model was given, or data cannot be read.
    """
    if model is not None:
        raise LorateError("small-lm is a model of its own: for another language model take the workload smollm2.")
    shape = QUICK if quick else FULL
    template = build(shape)
    template.load_state_dict(
        committed_weights(QUICK_FILE) if quick else cached_weights("small-lm", asdict(shape), lambda: trained(shape))
    )
    train, held_out = split_and_packed(byte_documents(document_texts(data)), shape.length, shape.held_out)
    return TensorWorkload("small-lm", template, TARGETS, train, held_out)


def byte_documents(texts: Iterable[str]) -> list[Document]:
    """Each text as the values of its UTF-8 bytes, led by `BEGIN`.

    >>> byte_documents(["ab", "é"])
    [[256, 97, 98], [256, 195, 169]]
    """
    return [[BEGIN, *text.encode()] for text in texts]


def build(shape: Shape) -> nn.Module:
    """The model at its random start."""
    transformers = require("transformers", extra="hf")
    config = transformers.LlamaConfig(
        vocab_size=BEGIN + 1,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.length,
        bos_token_id=BEGIN,
        eos_token_id=BEGIN,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.schedule.seed)
        model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def trained(shape: Shape) -> Weights:
    """The weights after pre-training on the chat text."""
    model = build(shape)
    text = packed(byte_documents(chat_texts()), shape.length)
    batches = TensorWorkload("chat", model, TARGETS, text, text).batches(shape.schedule.batch, shape.schedule.seed)
    pretrain(model, batches, shape.schedule, "Pre-training the small language model on chat, once")
    return {name: values.detach().contiguous() for name, values in model.state_dict().items()}
