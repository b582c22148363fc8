"""Rule ``auto``: no learning rate to choose."""

from lorate.optim.auto.optimizer import LoraAuto
from lorate.optim.auto.replay import Replay

__all__ = ["LoraAuto", "Replay"]
