"""The same step size at every step, as torch.optim.SGD takes it."""

import numpy as np

from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes


class Constant(Rule):
    r"""$\eta = a$ for every parameter: equal to ``torch.optim.SGD`` bit for bit.

    It is the only rule that is not corrected for the scaling s: halving ``lora_alpha`` and growing A and B in turn
    changes the trajectory.

    Source: gradient descent, the baseline of arXiv 2512.18248, Section 4.
    """

    name = "constant"
    formula = "η = a"
    guarantee = "none for LoRA: no fixed rate is safe for all adapters"
    use_when = "as a baseline, or with a rate you have tuned"
    allows_clipping = True
    default_lr = None

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One for every parameter; ``lr`` does the rest."""
        return StepSizes(1.0, np.ones_like(measurement.scaling), 1.0)
