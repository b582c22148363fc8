"""Fine-tuning runs: options in, a run directory out. Needs the extras ``hf``, ``cli`` and ``report``."""

from lorate.training.config import TrainConfig
from lorate.training.listener import Listener
from lorate.training.session import Outcome, dry_run, resume, train

__all__ = ["Listener", "Outcome", "TrainConfig", "dry_run", "resume", "train"]
