"""Move one factor of each layer, the one with the larger proved decrease."""

from dataclasses import dataclass

import numpy as np

from lorate.descent import one_factor_step_size
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.sharp import mean_step
from lorate.rules.step_sizes import StepSizes


@dataclass(frozen=True)
class OneFactor(Rule):
    r"""One factor of each layer moves; at least half of its linear decrease is proved, never less than by ``sharp``.

    B moves by $1/(s^2L\|A\|_2^2)$ if $\|g_B\|/\|A\|_2 \ge \|g_A\|/\|B\|_2$, else A by $1/(s^2L\|B\|_2^2)$. Other
    trainable parameters move by $1/L$. The gradient of the frozen weight is not needed. This is no longer the
    simultaneous update of LoRA.

    For the full batch only: on mini-batches the choice of the factor follows the noise, and the run can get stuck for
    ever (docs/mathematics/minibatch.md, Proposition 4).

    Attributes:
        smoothness: L, jointly in all trained weights; > 0.

    Raises:
        LorateError: L is missing, not finite or not positive.

    Source: docs/mathematics/one-factor.md, Theorem 2.

    >>> from lorate.measurement import Measurement
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> m = Measurement(one, one, 0 * one, 0 * one, one, A_spectral_sq=one, B_spectral_sq=0 * one)
    >>> OneFactor(smoothness=4.0).step_sizes(m).layers.tolist()
    [[0.0], [0.25]]
    """

    smoothness: float | None = None

    name = "one-factor"
    formula = "B moves by a / (s²L‖A‖₂²) or A by a / (s²L‖B‖₂²), whichever is proved to descend more"
    guarantee = "each full-batch step descends by Σ(η/2)‖g‖² of the factors that move, if L is right and a ≤ 1"
    use_when = "full batch, known L, nothing to measure; not LoRA's simultaneous update; can get stuck on mini-batches"
    needs = frozenset({"smoothness", "spectral"})

    def __post_init__(self) -> None:
        check_smoothness(self.name, self.smoothness)

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """Steps of A and of B of each layer, one of them zero."""
        m = measurement
        assert self.smoothness is not None and m.A_spectral_sq is not None and m.B_spectral_sq is not None
        a, b, g_a, g_b = (np.sqrt(x) for x in (m.A_spectral_sq, m.B_spectral_sq, m.A_grad_sq, m.B_grad_sq))
        steps = np.stack(one_factor_step_size(a, b, g_a, g_b, self.smoothness, m.scaling))
        gradient_sq = np.stack([m.A_grad_sq, m.B_grad_sq])
        # a vanishing partner leaves a step without bound to a factor without gradient
        steps = np.where(np.isfinite(steps) & (gradient_sq > 0), steps, 0.0)
        rest = 1 / self.smoothness if m.rest_grad_sq > 0 else 0.0
        eta = mean_step(m, np.sum(steps * gradient_sq, axis=0), rest)
        return StepSizes(eta, steps, rest, eta / 2 * m.scaled_gradient_norm**2)
