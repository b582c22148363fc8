"""Fine-tuning runs: options in, a run directory out. Needs the extras ``hf``, ``cli`` and ``report``."""

from lorate.training.config import TrainConfig
from lorate.training.session import Listener, Outcome, dry_run, resume, train

__all__ = ["Listener", "Outcome", "TrainConfig", "dry_run", "resume", "train"]
