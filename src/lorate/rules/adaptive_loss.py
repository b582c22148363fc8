"""The paper's second practical rule: the loss instead of the frozen weights' gradient."""

import math

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes, safe_ratio, scale_correct


class AdaptiveLoss(Rule):
    r"""$\eta = a / (\|V\|^2 + \sqrt{Loss})$.

    A smooth loss bounded below by 0 has $\|\nabla Loss\| \le \sqrt{2 L\, Loss}$, so the root of the loss can
    replace the gradient of the frozen weights, and costs nothing.

    Source: arXiv 2512.18248, Section 4, the rule called adapt2 there.

    >>> from lorate.measurement import Measurement
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> AdaptiveLoss().step_sizes(Measurement(one, one, one, one, one, loss=4.0)).eta
    0.25
    """

    name = "adaptive-loss"
    formula = "η = a / (‖V‖² + √Loss)"
    guarantee = "the proved step up to its constant, for losses bounded below by 0"
    use_when = "the paper's rule that measures nothing: losses bounded below by 0"
    needs = frozenset({"loss"})

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size, divided by each layer's scaling.

        Raises:
            LorateError: the loss is negative or was not given.
        """
        if measurement.loss is None:
            raise LorateError(
                "rule 'adaptive-loss' needs the loss: call optimizer.step(loss=loss); in a Trainer call "
                "lorate.attach(trainer, 'adaptive-loss')"
            )
        if measurement.loss < 0:
            raise LorateError(
                f"rule 'adaptive-loss' needs a loss that is never negative, got {measurement.loss:.4g}; "
                "use rule 'normalized' or 'adaptive'"
            )
        region = measurement.scaled_stacked_norm**2 + math.sqrt(measurement.loss)
        return scale_correct(safe_ratio(1.0, region), measurement.scaling)
