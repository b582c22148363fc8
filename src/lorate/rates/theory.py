"""The step size for which the paper proves descent, given the smoothness of the loss."""

import math
from dataclasses import dataclass

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rates.rate import Rate, StepSizes, scale_correct


@dataclass(frozen=True)
class Theory(Rate):
    r"""Every step descends by at least $(\eta / 4) \|\nabla J\|^2$ (full batch, right L, ``lr`` at most 1).

    $$ \eta = \min\left\{ \frac{1}{4\sqrt2\, \bar L (\|V\|^2 + \|\nabla Loss(W)\|)},\ 1 \right\},
              \qquad \bar L = \max(L, 1) $$

    The lemma is stated with L itself. Its terms have different units, and below about L = 0.12 it is false as
    stated: for small adapters the decrease is only $1 - 1/(8\sqrt2 L)$ of the linear one, which is less than a
    quarter. With $\max(L, 1)$ the proof holds for every L.

    Trainable parameters beside LoRA enter the loss directly; for them a quarter of the linear decrease needs
    $\eta \le 1.5 / \bar L$, which joins the minimum when there are any.

    Attributes:
        smoothness: L, the Lipschitz constant of the loss' gradient in all trained weights together; > 0.

    Raises:
        LorateError: L is missing, not finite or not positive.

    Source: arXiv 2512.18248, Lemma 3.4; the case L < 1: docs, "The paper's step".

    >>> from lorate.measurement import Measurement
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> m = Measurement(one, A_sq=one, B_sq=0 * one, A_grad_sq=0 * one, B_grad_sq=one, weight_grad_sq=one)
    >>> round(Theory(smoothness=2.0).step_sizes(m).eta, 4)
    0.0442
    """

    smoothness: float | None = None

    name = "theory"
    formula = "η = a·min{ 1/(4√2·max(L,1)·(‖V‖² + ‖∇Loss(W)‖)), 1 }"
    guarantee = "each full-batch step descends by (η/4)‖∇J‖², if L is right and a ≤ 1"
    use_when = "to see the proof at work: small problems with known L; slow"
    needs = frozenset({"weight-gradient", "smoothness"})

    def __post_init__(self) -> None:
        if self.smoothness is None:
            raise LorateError("rate 'theory' needs the smoothness L of the loss: give smoothness=... (--smoothness)")
        if not (math.isfinite(self.smoothness) and self.smoothness > 0):
            raise LorateError(f"smoothness must be a positive finite number, got {self.smoothness}")

    def step_sizes(self, measurement: Measurement) -> StepSizes:
        """The lemma's step, the same for every layer up to its scaling."""
        assert self.smoothness is not None and measurement.weight_gradient_norm is not None
        bar_L = max(self.smoothness, 1.0)
        region = measurement.scaled_stacked_norm**2 + measurement.weight_gradient_norm
        cap = 1.5 / bar_L if measurement.has_rest else 1.0
        eta = min(1 / (4 * math.sqrt(2) * bar_L * region) if region > 0 else 1.0, cap, 1.0)
        return scale_correct(eta, measurement.scaling)
