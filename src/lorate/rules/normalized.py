"""The paper's third practical rule: a step of square-root length."""

import math

from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes, safe_ratio, scale_correct


class Normalized(Rule):
    r"""$\eta = a / \|\nabla J\|^{1/2}$: steps grow like the root of the gradient's length.

    Needs the true gradient: clipping before the step changes what the rule sees. Zero at a stationary point.

    Source: arXiv 2512.18248, Section 4, "normalized".
    """

    name = "normalized"
    formula = "η = a / ‖∇J‖^½"
    guarantee = "none; best on ResNet-18 in the paper"
    use_when = "when the gradient's size varies much; tune a"

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size, divided by each layer's scaling."""
        eta = safe_ratio(1.0, math.sqrt(measurement.scaled_gradient_norm))
        return scale_correct(eta, measurement.scaling)
