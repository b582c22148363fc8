"""What a rule answers: how far each factor moves along the direction."""

from dataclasses import dataclass

import numpy as np

from lorate.measurement import Array


@dataclass(frozen=True)
class StepSizes:
    r"""Factors that multiply the direction (minus the gradient), before the user's multiplier ``lr``.

    Attributes:
        eta: the rule's step size for the scaled adapters ``sqrt(s) V``: the number that is shown and summed. Where
            layers take steps of their own it is their mean, weighted so that $\eta\|\nabla\tilde J\|^2$ is the linear
            decrease of all of them together.
        layers: factor of the direction of A and B of each layer, shape ``[layers]``, or ``[2, layers]`` with a row for
            A and a row for B.
        rest: factor of the direction of all other trainable parameters.
        guarantee: decrease of the loss that is proved for this step; None if nothing is.
        standing: layers that do not move because their own direction does not descend.
        refusal: why there is no step to take; None if there is one.
    """

    eta: float
    layers: Array
    rest: float
    guarantee: float | None = None
    standing: int = 0
    refusal: str | None = None

    def of(self, side: str, layer: int) -> float:
        """Factor of A or B (``side``) of one layer."""
        values = self.layers if self.layers.ndim == 1 else self.layers["AB".index(side)]
        return float(values[layer])

    @classmethod
    def none(cls, layers: int, refusal: str) -> "StepSizes":
        """No step, and why.

        >>> StepSizes.none(2, "the loss is nan").layers
        array([0., 0.])
        """
        return cls(0.0, np.zeros(layers), 0.0, refusal=refusal)


def scale_correct(eta: float, scaling: Array, guarantee: float | None = None) -> StepSizes:
    r"""Step $\eta$ on the scaled adapters: layer l moves by $\eta / s_l$, the rest by $\eta$.

    Gradient descent on $V$ with step $\eta / s$ is gradient descent on $\sqrt{s} V$ with step
    $\eta$, so the trained weights do not depend on how the product s B A is split.

    Args:
        eta: $\eta$.
        scaling: s of each layer, shape ``[layers]``.
        guarantee: decrease of the loss that is proved for the step, if any.
    """
    return StepSizes(eta, eta / scaling, eta, guarantee)


def safe_ratio(numerator: float, denominator: float) -> float:
    """The quotient, and 0 where no step is to be taken: the denominator vanishes as all gradients do, or overflows."""
    return numerator / denominator if denominator > 0 and np.isfinite(denominator) else 0.0
