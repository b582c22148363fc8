"""Models and data that ``lorate train`` runs on; needs the extra ``hf``."""

from lorate.tasks.causal import check_causal_data
from lorate.tasks.classification import ImageCollator, text_collator, tokenised
from lorate.tasks.data import LoadedData, load_data
from lorate.tasks.device import check_device
from lorate.tasks.examples import example_losses, example_scores
from lorate.tasks.kinds import RecordKind, TaskKind
from lorate.tasks.models import LoadedModel, load_model
from lorate.tasks.quiet import quiet

__all__ = [
    "ImageCollator",
    "LoadedData",
    "LoadedModel",
    "RecordKind",
    "TaskKind",
    "check_causal_data",
    "check_device",
    "example_losses",
    "example_scores",
    "load_data",
    "load_model",
    "quiet",
    "text_collator",
    "tokenised",
]
