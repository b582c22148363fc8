"""What a rule for the step size is: a pure function of one measurement."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lorate.measurement import Array, Measurement

Need = Literal["loss", "weight-gradient", "smoothness"]


@dataclass(frozen=True)
class StepSizes:
    """Factors that multiply the gradients, before the user's multiplier ``lr``.

    Attributes:
        eta: the rule's step size for the scaled adapters ``sqrt(s) V``: the number that is shown and summed.
        layers: factor of the gradients of A and B of each layer, shape ``[layers]``.
        rest: factor of the gradients of all other trainable parameters.
    """

    eta: float
    layers: Array
    rest: float


class Rate(ABC):
    """A rule: measurement in, step sizes out. It holds constants only, so it can be tested without a model.

    Attributes:
        name: the word for ``rate=`` and ``--rate``.
        formula: one line for tables.
        guarantee: what is proved, in one line.
        use_when: advice, in one line.
        needs: what must be measured or given beside the lengths of adapters and gradients.
        allows_clipping: whether the rule still does what it says when gradients were clipped before the step.
        default_lr: the constant ``a`` if the user gives none; None where the user must choose.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    guarantee: ClassVar[str]
    use_when: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    allows_clipping: ClassVar[bool] = False
    default_lr: ClassVar[float | None] = 1.0

    @abstractmethod
    def step_sizes(self, measurement: Measurement) -> StepSizes:
        """Step sizes for ``lr = 1``; zero at a stationary point, never NaN for finite measurements."""


def scale_correct(eta: float, scaling: Array) -> StepSizes:
    r"""Step $\eta$ on the scaled adapters: layer l moves by $\eta / s_l$, the rest by $\eta$.

    Gradient descent on $V$ with step $\eta / s$ is gradient descent on $\sqrt{s} V$ with step
    $\eta$, so the trained weights do not depend on how the product s B A is split.
    """
    return StepSizes(eta, eta / scaling, eta)


def safe_ratio(numerator: float, denominator: float) -> float:
    """The quotient, and 0 where the denominator vanishes: there all gradients do, and no step is to be taken."""
    return numerator / denominator if denominator > 0 and np.isfinite(denominator) else 0.0
