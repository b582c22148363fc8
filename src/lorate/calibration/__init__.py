"""Find lora_alpha for a model and data of one's own by a small sweep.

It needs the extras ``hf``, ``experiments`` and ``report``; `lorate.sweep` does its runs,
`lorate.training` prepares model and data.
"""

from lorate.extras import require

require("transformers", extra="hf")

from lorate.calibration.calibrate import Calibration, calibrate  # noqa: E402 (first the line to type if something is missing)
from lorate.calibration.plan import QUICK, Sweep  # noqa: E402

__all__ = ["QUICK", "Calibration", "Sweep", "calibrate"]
