"""LoRA's simultaneous step over the size of the adapters: a step that does not depend on the batch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorate.descent import relative_step_size
from lorate.measurement import Array, Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule
from lorate.rules.sharp import mean_step
from lorate.rules.step_sizes import StepSizes


@dataclass
class Relative(Rule):
    r"""Mini-batches: the relative gradient goes to zero at the rate of SGD, without a bound of the adapters.

    $$ \eta_l = \frac{\theta}{s_l\,(s_l(\|A_l\|_2^2 + \|B_l\|_2^2) + c_l)},\qquad
       c_l = s_l(\|A_l\|_2^2 + \|B_l\|_2^2)\ \text{at the start} $$

    $\theta$ is ``lr`` and what a scheduler makes of it; or, with ``adagrad=True``, ``lr`` over
    $b_t = (b_0^2 + \sum_{k\le t}\|\hat u_k\|^2)^{1/2}$ with the relative gradients $\hat u_k$ so far and
    $b_0 = 10\|\hat u_0\|$. Other trainable parameters move by $\theta$. Norms of the adapters are all it measures.

    Attributes:
        adagrad: whether $\theta$ shrinks by what the gradients add up to.
        offsets: c of each layer; None before the first step.
        squares: $b_t^2$; None before the first step.

    Source: docs/mathematics/minibatch.md, Theorems 1 and 2.

    >>> one = np.ones(1)
    >>> m = Measurement(one, one, 0 * one, 0 * one, one, A_spectral_sq=4 * one, B_spectral_sq=0 * one)
    >>> Relative().step_sizes(m).layers.tolist()
    [0.125]
    """

    adagrad: bool = False
    offsets: Array | None = field(default=None, init=False)
    squares: float | None = field(default=None, init=False)

    name = "relative"
    formula = "η_l = a / (s(s(‖A‖₂² + ‖B‖₂²) + c)), c their size at the start"
    guarantee = (
        "on mini-batches the mean squared relative gradient falls like 1/√T, for bounded gradients and the right a"
    )
    use_when = "mini-batches and a proof; a does not change with the scaling"
    needs = frozenset({"spectral"})
    default_lr = None

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size per layer, for A and B alike."""
        m = measurement
        assert m.A_spectral_sq is not None and m.B_spectral_sq is not None
        size = m.scaling * (m.A_spectral_sq + m.B_spectral_sq)
        if self.offsets is None:
            self.offsets = np.where(size > 0, size, 1.0)  # at the origin there is no gradient to divide
        gradient_sq = m.A_grad_sq + m.B_grad_sq
        relative_sq = float(np.sum(gradient_sq / (m.scaling * (size + self.offsets)))) + m.rest_grad_sq
        theta = 1.0
        if self.adagrad:
            self.squares = grown(self.squares, relative_sq)
            theta = 1 / math.sqrt(self.squares) if self.squares > 0 else 0.0
        layers = relative_step_size(theta, np.sqrt(m.A_spectral_sq), np.sqrt(m.B_spectral_sq), self.offsets, m.scaling)
        return StepSizes(mean_step(m, layers * gradient_sq, theta), layers, theta)

    def state_dict(self) -> dict[str, Any]:
        """The offsets and the sum of squares."""
        return {"offsets": None if self.offsets is None else self.offsets.tolist(), "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from them."""
        self.offsets = None if state["offsets"] is None else np.array(state["offsets"])
        self.squares = state["squares"]


def grown(squares: float | None, relative_sq: float) -> float:
    r"""$b_t^2$ from $b_{t-1}^2$; $b_0^2$ is a hundred times the first square, so that early steps differ little."""
    return (100 * relative_sq if squares is None else squares) + relative_sq
