"""Find lora_alpha for a model and data of one's own by a small sweep.

It needs the extras ``hf``, ``experiments`` and ``report``, and stands on `lorate.experiments` (runs that are resumed,
workloads) and on `lorate.training` (models and data).
"""

from lorate.calibration.calibrate import Calibration, calibrate
from lorate.calibration.plan import QUICK, Sweep

__all__ = ["QUICK", "Calibration", "Sweep", "calibrate"]
