"""What a rule for the step size is: a pure function of one measurement."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lorate.errors import LorateError
from lorate.measurement import Array, Measurement

Need = Literal["loss", "weight-gradient", "smoothness", "spectral", "displacement", "closure"]


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
        standing: layers that stand still because their own direction does not descend.
    """

    eta: float
    layers: Array
    rest: float
    guarantee: float | None = None
    standing: int = 0

    def of(self, side: str, layer: int) -> float:
        """Factor of A or B (``side``) of one layer."""
        values = self.layers if self.layers.ndim == 1 else self.layers["AB".index(side)]
        return float(values[layer])


class Rule(ABC):
    """A rule: measurement in, step sizes out. It holds constants only, so it can be tested without a model.

    Attributes:
        name: the word for ``rule=`` and ``--rule``.
        formula: one line for tables.
        guarantee: what is proved, in one line.
        use_when: advice, in one line.
        needs: what must be measured or given beside the lengths of adapters and gradients; a rule that needs a
            ``"closure"`` cannot run in a Trainer.
        gradient_norm: how the frozen weights' gradient is measured by default, where it is needed: ``"exact"``, or
            by a ``"sketch"``, which may steer a step but proves nothing.
        allows_clipping: whether the rule still does what it says when gradients were clipped before the step.
        averages: whether a run ends with an average of the adapters over its steps, not with the last ones.
        default_lr: the constant ``a`` if the user gives none; None where the user must choose.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    guarantee: ClassVar[str]
    use_when: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    gradient_norm: ClassVar[Literal["exact", "sketch"]] = "exact"
    allows_clipping: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    default_lr: ClassVar[float | None] = 1.0

    @abstractmethod
    def step_sizes(self, measurement: Measurement) -> StepSizes:
        """Step sizes for ``lr = 1``: not negative, and never NaN for finite measurements.

        Raises:
            LorateError: the loss that the rule needs is not known, or out of its range.
        """


def scale_correct(eta: float, scaling: Array, guarantee: float | None = None) -> StepSizes:
    r"""Step $\eta$ on the scaled adapters: layer l moves by $\eta / s_l$, the rest by $\eta$.

    Gradient descent on $V$ with step $\eta / s$ is gradient descent on $\sqrt{s} V$ with step
    $\eta$, so the trained weights do not depend on how the product s B A is split.
    """
    return StepSizes(eta, eta / scaling, eta, guarantee)


def safe_ratio(numerator: float, denominator: float) -> float:
    """The quotient, and 0 where no step is to be taken: the denominator vanishes as all gradients do, or overflows."""
    return numerator / denominator if denominator > 0 and np.isfinite(denominator) else 0.0


def check_smoothness(rule: str, smoothness: float | None) -> None:
    """Refuse an L with which a rule cannot work.

    Raises:
        LorateError: L is missing, not a number, not finite or not positive.
    """
    if smoothness is None:
        raise LorateError(f"rule {rule!r} needs the smoothness L of the loss: give smoothness=... (--smoothness)")
    if not isinstance(smoothness, int | float):
        raise LorateError(f"smoothness must be a positive finite number, got {smoothness!r}: give a Python float")
    if not (math.isfinite(smoothness) and smoothness > 0):
        raise LorateError(f"smoothness must be a positive finite number, got {smoothness}")
