"""The step size for which the paper proves descent, given the smoothness of the loss."""

from dataclasses import dataclass

from lorate.descent import THEORY_FRACTION, theory_step_size
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.step_sizes import StepSizes, scale_correct


@dataclass(frozen=True)
class Theory(Rule):
    r"""Every step descends by at least $(\eta / 4) \|\nabla J\|^2$ (full batch, right L, ``lr`` at most 1).

    $$ \eta = \min\left\{ \frac{1}{4\sqrt2\, \bar L (\|V\|^2 + \|\nabla Loss(W)\|)},\ 1 \right\},
              \qquad \bar L = \max(L, 1) $$

    The lemma is stated with L itself. Its terms have different units, and below about L = 0.12 it is false as
    stated: for small adapters the decrease is only $1 - 1/(8\sqrt2 L)$ of the linear one, which is less than a
    quarter. With $\max(L, 1)$ the proof holds for every L.

    Trainable parameters beside LoRA enter the loss directly; for them a quarter of the linear decrease needs
    $\eta \le 1.5 / L$, which joins the minimum when there are any.

    Attributes:
        smoothness: L, the Lipschitz constant of the loss' gradient in all trained weights together; > 0.

    Raises:
        LorateError: L is missing, not finite or not positive.

    Source: arXiv 2512.18248, Lemma 3.4; the case L < 1: docs/mathematics/paper.md, Theorem 2.

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
    use_when = "to see the paper's proof at work: small problems with known L; slow"
    needs = frozenset({"weight-gradient", "smoothness"})

    def __post_init__(self) -> None:
        check_smoothness(self.name, self.smoothness)

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """The lemma's step, the same for every layer up to its scaling."""
        assert self.smoothness is not None and measurement.weight_gradient_norm is not None
        eta = theory_step_size(
            measurement.scaled_stacked_norm**2,
            measurement.weight_gradient_norm,
            self.smoothness,
            other_parameters=measurement.has_rest,
        )
        decrease = THEORY_FRACTION * float(eta) * measurement.scaled_gradient_norm**2
        return scale_correct(float(eta), measurement.scaling, decrease)
