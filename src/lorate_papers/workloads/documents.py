"""Documents for language models: read, turned into tokens, packed into sequences of equal length."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.tasks.embedded import human_eval_records
from lorate_papers.workloads.alpaca import ALPACA, ALPACA_ON_HUB, alpaca_records

Document = Sequence[int]
"""Numbers of its tokens, the mark of its beginning or end included."""


def document_texts(spec: str | None) -> list[str]:
    """Every different record of a data set as one text, in an order that depends on the records alone.

    Prompt and completion follow each other, chat messages stand on lines of their own.

    Args:
        spec: as ``lorate train --data`` takes it, ``alpaca``, or a file in Alpaca's format; None for the problems and
            solutions of HumanEval.

    Raises:
        LorateError: the data cannot be read.
    """
    return list(dict.fromkeys(_text(record) for record in _records(spec)))


def _records(spec: str | None) -> list[dict[str, Any]]:
    if spec is None:
        return list(human_eval_records())
    if (records := alpaca_records(Path(spec))) is not None:
        return records
    from lorate.tasks import load_data  # imports datasets, which the embedded data do without

    if spec == ALPACA:  # its text column is the whole prompt with the answer, as the papers train on it
        data = load_data(ALPACA_ON_HUB, kind="causal-lm", columns="text=text")
    else:
        data = load_data(spec, kind="causal-lm")
    return [record for part in (data.train, data.eval) for record in part]


def _text(record: Mapping[str, Any]) -> str:
    if "messages" in record:
        return "\n".join(message["content"] for message in record["messages"])
    return str(record["text"]) if "text" in record else str(record["prompt"]) + str(record["completion"])


def packed(documents: Sequence[Document], length: int) -> dict[str, Tensor]:
    """All documents one after the other, cut into sequences; every token is a label.

    Args:
        documents: in order.
        length: tokens of a sequence; what is left over at the end is dropped.

    Returns:
        ``input_ids`` and ``labels``, one tensor of shape ``[sequences, length]``, int64.

    >>> packed([[9, 1, 2], [9, 3, 4, 5]], 3)["input_ids"]
    tensor([[9, 1, 2],
            [9, 3, 4]])
    """
    stream = [token for document in documents for token in document]
    tokens = torch.tensor(stream[: len(stream) // length * length], dtype=torch.long).reshape(-1, length)
    return {"input_ids": tokens, "labels": tokens}


def split_and_packed(
    documents: Sequence[Document], length: int, held_out: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Training and held-out sequences, always the same ones, that share no document.

    Args:
        documents: in an order that depends on nothing else.
        length: tokens of a sequence.
        held_out: sequences of the held-out set, at least; a few more if the last document is long.

    Raises:
        LorateError: the documents are too short to give that many sequences and one more to train on.
    """
    order = list(documents)
    random.Random(0).shuffle(order)
    count, tokens = 0, 0
    while tokens < held_out * length and count < len(order):
        tokens += len(order[count])
        count += 1
    train, rest = packed(order[count:], length), packed(order[:count], length)
    if not len(train["labels"]) or len(rest["labels"]) < held_out:
        raise LorateError(
            f"The data hold {sum(map(len, order))} tokens in {len(order)} documents, but {held_out} sequences of "
            f"{length} tokens are held out and some are needed to train on: give more data."
        )
    return train, rest
