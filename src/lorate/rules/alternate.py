"""One factor of each layer a step, chosen before the batch is seen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.relative import grown
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.sharp import mean_step
from lorate.rules.step_sizes import StepSizes


@dataclass
class Alternate(Rule):
    r"""Mini-batches: the relative gradient goes to zero at the rate of SGD, with the very L of the weights.

    In each layer B moves by $\theta/(s^2\|A\|_2^2)$ or A by $\theta/(s^2\|B\|_2^2)$, as a coin or the turn says. Other
    trainable parameters move by $\theta$. With L given $\theta$ is ``lr``/L; without it ``lr`` over
    $b_t = (b_0^2 + \sum_{k\le t}\|\hat u_k\|^2)^{1/2}$ with the relative gradients $\hat u_k$ of the factors that
    moved and $b_0 = 10\|\hat u_0\|$. This is not LoRA's simultaneous update. No bound of the gradient or of the
    adapters is needed.

    Attributes:
        smoothness: L, jointly in all trained weights; > 0. None: nothing is known.
        order: ``"coin"``, fair and for each layer, or ``"turns"``: B of all layers, then A of all layers.
        seed: of the coin.
        count: steps so far.
        squares: $b_t^2$; None before the first step.

    Raises:
        LorateError: L is not finite or not positive, or ``order`` is unknown.

    Source: docs/mathematics/minibatch.md, Theorems 1 and 2.

    >>> one = np.ones(1)
    >>> m = Measurement(one, one, 0 * one, 0 * one, one, A_spectral_sq=one, B_spectral_sq=4 * one)
    >>> rule = Alternate(smoothness=2.0, order="turns")
    >>> rule.step_sizes(m).layers.tolist(), rule.step_sizes(m).layers.tolist()
    ([[0.0], [0.5]], [[0.125], [0.0]])
    """

    smoothness: float | None = None
    order: Literal["coin", "turns"] = "coin"
    seed: int = 0
    count: int = field(default=0, init=False)
    squares: float | None = field(default=None, init=False)

    name = "alternate"
    formula = "B moves by aθ / (s²‖A‖₂²) or A by aθ / (s²‖B‖₂²), by a coin; θ = 1/L, or 1/√Σ‖û‖² without L"
    guarantee = "on mini-batches the mean squared relative gradient falls like 1/√T, for the right a ≤ 1 and L"
    use_when = "mini-batches and a proof for any smooth loss; not LoRA's simultaneous update"
    needs = frozenset({"spectral"})

    def __post_init__(self) -> None:
        if self.smoothness is not None:
            check_smoothness(self.name, self.smoothness)
        if self.order not in ("coin", "turns"):
            raise LorateError(f"order must be 'coin' or 'turns', got {self.order!r}")

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """Steps of A and of B of each layer, one of them zero."""
        m = measurement
        assert m.A_spectral_sq is not None and m.B_spectral_sq is not None
        partner_sq = m.scaling**2 * np.stack([m.B_spectral_sq, m.A_spectral_sq])
        gradient_sq = np.stack([m.A_grad_sq, m.B_grad_sq])
        B = self._moves_B(len(m.scaling))
        moves = np.stack([~B, B]) & (partner_sq > 0)
        self.count += 1
        over = np.divide(1.0, partner_sq, out=np.zeros_like(partner_sq), where=moves)
        relative_sq = float(np.sum(over * gradient_sq)) + m.rest_grad_sq
        guarantee = None
        if self.smoothness is not None:
            theta = 1 / self.smoothness
            guarantee = theta / 2 * relative_sq  # where the batch is the whole data
        else:
            self.squares = grown(self.squares, relative_sq)
            theta = 1 / math.sqrt(self.squares) if self.squares > 0 else 0.0
        steps = theta * over
        return StepSizes(mean_step(m, np.sum(steps * gradient_sq, axis=0), theta), steps, theta, guarantee)

    def _moves_B(self, layers: int) -> np.ndarray:
        """Decided by the number of the step alone: the same on every rank, and after a restart."""
        if self.order == "turns":
            return np.full(layers, self.count % 2 == 0)
        return np.random.default_rng((self.seed, self.count)).random(layers) < 0.5

    def state_dict(self) -> dict[str, Any]:
        """How many steps were taken, and the sum of squares."""
        return {"count": self.count, "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from them."""
        self.count, self.squares = state["count"], state["squares"]
