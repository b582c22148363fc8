"""Models and data that ``lorate train`` runs on; needs the extra ``hf``."""

from lorate.tasks.classification import ImageCollator, cut_texts, text_collator, text_limit, tokenised
from lorate.tasks.data import LoadedData, load_data
from lorate.tasks.device import check_device
from lorate.tasks.encoding import EncodedData, Encoder
from lorate.tasks.examples import example_losses
from lorate.tasks.kinds import RecordKind, TaskKind, TrainOn
from lorate.tasks.mask import marked
from lorate.tasks.models import LoadedModel, load_model
from lorate.tasks.quiet import quiet

__all__ = [
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
    "example_losses",
    "load_data",
    "load_model",
    "marked",
    "quiet",
    "text_collator",
    "text_limit",
    "tokenised",
]
