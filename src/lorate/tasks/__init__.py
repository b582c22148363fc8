"""Models and data that ``lorate train`` runs on; needs the extra ``hf``."""

from lorate.tasks.classification import ImageCollator, cut_texts, text_collator, text_limit, tokenised
from lorate.tasks.data import LoadedData, load_data
from lorate.tasks.device import check_device
from lorate.tasks.encoding import Encoded, EncodedData, Encoder
from lorate.tasks.examples import example_scores
from lorate.tasks.kinds import Judged, RecordKind, TaskKind, TrainOn
from lorate.tasks.mask import marked
from lorate.tasks.models import LoadedModel, load_model, positions
from lorate.tasks.pairs import check_pairs, encode_pairs, pair_scores, shown_pair
from lorate.tasks.preferences import PREFERENCES
from lorate.tasks.quiet import quiet

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
