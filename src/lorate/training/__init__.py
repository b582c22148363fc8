"""Fine-tuning runs: options in, a run directory out. Needs the extras ``hf``, ``cli`` and ``report``."""

import importlib
from typing import TYPE_CHECKING, Any

from lorate.extras import require
from lorate.training.config import TrainConfig

if TYPE_CHECKING:
    from lorate.training.ending import Outcome
    from lorate.training.listener import Listener
    from lorate.training.session import dry_run, resume, train

_PLACES = {"Listener": "listener", "Outcome": "ending", "dry_run": "session", "resume": "session", "train": "session"}

__all__ = ["Listener", "Outcome", "TrainConfig", "dry_run", "resume", "train"]


def __getattr__(name: str) -> Any:
    """What needs transformers is imported when it is used: the options alone are read in no time."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    require("transformers", extra="hf")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
