"""Models and data that ``lorate train`` runs on; needs the extra ``hf``."""

from lorate.tasks.classification import ImageCollator, cut_texts, text_collator, text_limit, tokenised
from lorate.tasks.data import LoadedData, load_data
from lorate.tasks.device import check_device
from lorate.tasks.encoding import Encoded, EncodedData, Encoder
from lorate.tasks.examples import example_scores
from lorate.tasks.kinds import RecordKind, TaskKind, TrainOn
from lorate.tasks.mask import marked
from lorate.tasks.models import LoadedModel, load_model, positions
from lorate.tasks.quiet import quiet

__all__ = [
    "Encoded",
    "EncodedData",
    "Encoder",
    "ImageCollator",
    "LoadedData",
    "LoadedModel",
    "RecordKind",
    "TaskKind",
    "TrainOn",
    "check_device",
    "cut_texts",
    "example_scores",
    "load_data",
    "load_model",
    "marked",
    "positions",
    "quiet",
    "text_collator",
    "text_limit",
    "tokenised",
]
