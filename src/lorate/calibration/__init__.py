"""Find lora_alpha for a model and data of one's own by a small sweep.

It needs the extras ``hf``, ``experiments`` and ``report``; `lorate.sweep` does its runs,
`lorate.training` prepares model and data.
"""

from lorate.calibration.calibrate import Calibration, calibrate
from lorate.calibration.plan import QUICK, Sweep

__all__ = ["QUICK", "Calibration", "Sweep", "calibrate"]
