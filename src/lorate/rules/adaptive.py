"""The paper's practical rule: the proved step without its constants."""

from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes, safe_ratio, scale_correct


class Adaptive(Rule):
    r"""$\eta = a / (\|V\|^2 + \|\nabla Loss(W)\|)$.

    V are all adapters stacked, each layer weighted by its scaling; $\nabla Loss(W)$ is the gradient of the
    frozen weights (and of the other trainable parameters). Where both vanish the point is stationary and the step 0.
    By default the norm of $\nabla Loss(W)$ is sketched: nothing is proved about the constant ``a`` anyway.

    Source: arXiv 2512.18248, Section 4, "adaptive".
    """

    name = "adaptive"
    formula = "η = a / (‖V‖² + ‖∇Loss(W)‖)"
    guarantee = "the proved step up to its constant"
    use_when = "the paper's rule; the frozen weights' gradient norm is sketched"
    needs = frozenset({"weight-gradient"})
    gradient_norm = "sketch"

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size, divided by each layer's scaling."""
        assert measurement.weight_gradient_norm is not None
        region = measurement.scaled_stacked_norm**2 + measurement.weight_gradient_norm
        return scale_correct(safe_ratio(1.0, region), measurement.scaling)
