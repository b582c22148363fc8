"""Bring labelled texts and images into the form that transformers' Trainer takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorate.extras import require
from lorate.tasks.models import positions
from lorate.tasks.progress import counted
from lorate.tasks.quiet import quiet


def text_limit(max_length: int, tokenizer: Any, model: Any) -> int:
    """Tokens that a text is cut to: ``max_length``, or the limit of tokenizer or model where that is lower."""
    return int(min(max_length, tokenizer.model_max_length, positions(model) or max_length))


def cut_texts(dataset: Any, tokenizer: Any, limit: int) -> int:
    """How many labelled texts have more tokens than ``limit``."""
    texts = dataset["text"]
    batches = (list(texts[begin : begin + 1000]) for begin in range(0, len(texts), 1000))
    with quiet():
        found = (ids for batch in batches for ids in tokenizer(batch)["input_ids"])
        return sum(len(ids) > limit for ids in counted(found, len(texts)))


def tokenised(dataset: Any, tokenizer: Any, limit: int) -> Any:
    """Turn the columns ``text, label`` into ``input_ids, attention_mask, labels``.

    Args:
        dataset: a ``datasets.Dataset`` of labelled texts.
        tokenizer: of the model.
        limit: longer texts are cut here, see `text_limit`.

    Returns:
        A new data set, not yet padded: see `text_collator`.
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return {**tokenizer(batch["text"], truncation=True, max_length=limit), "labels": batch["label"]}

    with quiet():
        return dataset.map(encode, batched=True, remove_columns=dataset.column_names)


def text_collator(tokenizer: Any) -> Any:
    """Pads the texts of a batch to its longest and stacks them: a ``DataCollatorWithPadding``."""
    return require("transformers", extra="hf").DataCollatorWithPadding(tokenizer)


@dataclass(frozen=True)
class ImageCollator:
    """Turns examples ``{"image": PIL image, "label": int}`` into a batch.

    It reads the columns ``image`` and ``label`` itself, so Trainer must know
    ``remove_unused_columns=False``. Images become RGB, or grey for a model with one channel, whatever
    their mode was; resizing and normalising is the image processor's, on Pillow alone.

    Attributes:
        processor: the model's image processor.
        channels: colour channels of the model, 3 or 1.
    """

    processor: Any
    channels: int = 3

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate to ``pixel_values`` [batch, channels, height, width] and ``labels`` [batch]."""
        mode = "L" if self.channels == 1 else "RGB"
        images = [example["image"].convert(mode) for example in examples]
        return {
            "pixel_values": self.processor(images, return_tensors="pt")["pixel_values"],
            "labels": torch.tensor([example["label"] for example in examples]),
        }
