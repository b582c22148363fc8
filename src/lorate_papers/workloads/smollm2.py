"""``smollm2``: SmolLM2-135M, or another causal language model, fine-tuned on Python code or other text."""

from lorate.errors import LorateError
from lorate.tasks import load_model
from lorate_papers.workloads.documents import document_texts, split_and_packed
from lorate_papers.workloads.tensor_workload import TensorWorkload

MOST = 5000
"""Documents that are read of a large data set."""


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload: sequences of 128 tokens, or 64 in the quick form; LoRA on the layers that PEFT's table names.

    Args:
        quick: shorter sequences, and fewer held out.
        data: text in any form that ``lorate train`` reads, or ``alpaca``, instead of the problems of HumanEval.
        model: hub id, directory or GGUF file of another model, such as ``TinyLlama/TinyLlama-1.1B-Chat-v1.0``.

    Raises:
        LorateError: data or model cannot be read, or the tokenizer has no end token.
    """
    length, held_out = (64, 8) if quick else (128, 24)
    texts = document_texts(data)[:MOST]
    loaded = load_model(model, "causal-lm")
    end = loaded.processor.eos_token_id
    if end is None:
        raise LorateError("The model's tokenizer has no end token, which ends every document: use another model.")
    documents = [[*tokens, end] for tokens in loaded.processor(texts)["input_ids"]]
    train, rest = split_and_packed(documents, length, held_out)
    loaded.model.config.use_cache = False
    return TensorWorkload("smollm2", loaded.model, tuple(loaded.suggested_targets), train, rest, chunk=4)
