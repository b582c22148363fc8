"""The largest step for which half of the linear decrease is proved."""

from dataclasses import dataclass

import numpy as np

from lorate.descent import guaranteed_decrease, layer_curvature, sharp_step_size
from lorate.measurement import Array, Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.step_sizes import StepSizes


@dataclass(frozen=True)
class Sharp(Rule):
    r"""Every step descends by at least half of the linear decrease (full batch, right L, ``lr`` at most 1).

    $$ \eta_l = \frac{1}{s_l^2 L\,(\|A_l\|_2^2 + \|B_l\|_2^2) + s_l\|G_l\|_2} $$

    With ``per_layer=False`` all layers share the smallest of these in the scaled factors, $\min_l s_l\eta_l$. Other
    trainable parameters move by at most $1/L$. Layers without gradient do not count. Where the norms of G are
    sketched the step is only an estimate of this one, and nothing is proved.

    Attributes:
        smoothness: L, jointly in all trained weights; > 0.
        per_layer: one step size per layer, or one for all.

    Raises:
        LorateError: L is missing, not finite or not positive.

    Source: docs/mathematics/sharp.md, Theorem 1.

    >>> from lorate.measurement import Measurement
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> m = Measurement(one, one, 0 * one, 0 * one, one, weight_grad_sq=one, A_spectral_sq=one, B_spectral_sq=0 * one)
    >>> Sharp(smoothness=3.0).step_sizes(m).eta
    0.25
    """

    smoothness: float | None = None
    per_layer: bool = True

    name = "sharp"
    formula = "η_l = a / (s²L(‖A‖₂² + ‖B‖₂²) + s‖G‖₂) for each layer"
    guarantee = "each full-batch step descends by Σ(η_l/2)‖g_l‖², if L is right and a ≤ 1"
    use_when = "known L and a proof for plain gradient descent; 12 to 38 times fewer steps than theory on digits"
    needs = frozenset({"weight-gradient", "smoothness", "spectral"})

    def __post_init__(self) -> None:
        check_smoothness(self.name, self.smoothness)

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size per layer, or one for all layers up to their scaling."""
        m = measurement
        assert self.smoothness is not None and m.A_spectral_sq is not None and m.B_spectral_sq is not None
        assert m.weight_grad_sq is not None
        G = np.sqrt(m.weight_grad_sq) if m.weight_grad_bound is None else m.weight_grad_bound
        norms = np.sqrt(m.A_spectral_sq), np.sqrt(m.B_spectral_sq), G, self.smoothness, m.scaling
        gradient_sq = m.A_grad_sq + m.B_grad_sq
        layers = np.where(gradient_sq > 0, sharp_step_size(*norms), 0.0)
        rest = 1 / self.smoothness if m.rest_grad_sq > 0 else 0.0
        if not self.per_layer:
            common = np.min([*(m.scaling * layers)[gradient_sq > 0], *([rest] if rest else [])], initial=np.inf)
            layers = np.where(gradient_sq > 0, common / m.scaling, 0.0)
            rest = min(rest, float(common))
        proved = guaranteed_decrease(layers, gradient_sq, layer_curvature(*norms)).sum()
        proved += float(guaranteed_decrease(rest, m.rest_grad_sq, self.smoothness))
        eta = mean_step(m, layers * gradient_sq, rest)
        return StepSizes(eta, layers, rest, float(proved))


def mean_step(m: Measurement, linear: Array, rest: float) -> float:
    r"""The step $\eta$ of the scaled factors with the linear decrease $\eta\|\nabla\tilde J\|^2$ of the given steps.

    Args:
        m: the measurement.
        linear: linear decrease of each layer, $\eta_A\|g_A\|^2 + \eta_B\|g_B\|^2$.
        rest: step of the other parameters.
    """
    total = m.scaled_gradient_norm**2
    return float(np.sum(linear) + rest * m.rest_grad_sq) / total if total > 0 else 0.0
