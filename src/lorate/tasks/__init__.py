"""Models and data that ``lorate train`` runs on; needs the extra ``hf``."""

import importlib
from typing import TYPE_CHECKING, Any

from lorate.tasks.kinds import PREFERENCES, Judged, RecordKind, TaskKind, TrainOn
from lorate.tasks.quiet import quiet

if TYPE_CHECKING:
    from lorate.tasks.classification import ImageCollator, cut_texts, text_collator, text_limit, tokenised
    from lorate.tasks.data import LoadedData, load_data
    from lorate.tasks.device import check_device
    from lorate.tasks.encoding import Encoded, EncodedData, Encoder
    from lorate.tasks.examples import example_scores
    from lorate.tasks.mask import marked
    from lorate.tasks.models import LoadedModel, load_model, positions
    from lorate.tasks.pairs import check_pairs, encode_pairs, pair_scores, shown_pair

_PLACES = {
    "classification": (
        "ImageCollator",
        "cut_texts",
        "text_collator",
        "text_limit",
        "tokenised",
    ),
    "data": (
        "LoadedData",
        "load_data",
    ),
    "device": ("check_device",),
    "encoding": (
        "Encoded",
        "EncodedData",
        "Encoder",
    ),
    "examples": ("example_scores",),
    "mask": ("marked",),
    "models": (
        "LoadedModel",
        "load_model",
        "positions",
    ),
    "pairs": (
        "check_pairs",
        "encode_pairs",
        "pair_scores",
        "shown_pair",
    ),
}

__all__ = [
    "PREFERENCES",
    "Encoded",
    "EncodedData",
    "Encoder",
    "ImageCollator",
    "Judged",
    "LoadedData",
    "LoadedModel",
    "RecordKind",
    "TaskKind",
    "TrainOn",
    "check_device",
    "check_pairs",
    "cut_texts",
    "encode_pairs",
    "example_scores",
    "load_data",
    "load_model",
    "marked",
    "pair_scores",
    "positions",
    "quiet",
    "shown_pair",
    "text_collator",
    "text_limit",
    "tokenised",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is used: ``lorate train --help`` does not."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
