"""What a rule for the step size is: it answers each measurement with step sizes, and may remember."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules.line import Line
from lorate.rules.step_sizes import StepSizes

Need = Literal["loss", "weight-gradient", "smoothness", "spectral", "displacement", "closure", "last-line"]
LORA_NEEDS: frozenset[Need] = frozenset({"weight-gradient", "spectral", "displacement"})
"""What only W = W0 + s B A gives a meaning to."""


class Rule(ABC):
    """A rule: measurement in, step sizes out; it can be tested without a model.

    Most rules hold constants only. One that remembers gives its memory to `state_dict` as plain numbers, and every
    optimizer works on a copy of the rule that it was given.

    Attributes:
        name: the word for ``rule=`` and ``--rule``.
        formula: one line for tables.
        guarantee: what is proved, in one line.
        use_when: advice, in one line.
        needs: what must be measured or given beside the lengths of adapters and gradients: ``"loss"``;
            ``"weight-gradient"``, the frozen weights' gradient; ``"smoothness"``, L; ``"spectral"`` norms of the
            factors; ``"displacement"`` of the weights along D; a ``"closure"``, which no Trainer has; ``"last-line"``,
            the step before seen from its end.
        gradient_norm: how the frozen weights' gradient is measured by default, where it is needed: ``"exact"``, or
            by a ``"sketch"``, which may steer a step but proves nothing.
        allows_clipping: whether the rule still does what it says when gradients were clipped before the step.
        average_exponent: p if a run ends with an average of the adapters, with weights that grow like $t^p$; None if
            it ends with the last ones.
        gradient_share: b, how near to that average gradients are taken: 0, at the last adapters.
        direction: D if the user gives no other: minus the ``"gradient"``, or ``"whitened"`` on the rank side.
        direction_lr: the ``lr`` that another optimizer gets whose direction is taken; None leaves it its own.
        allows_direction: whether the user may give another.
        default_lr: the constant ``a`` if the user gives none; None where the user must choose.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    guarantee: ClassVar[str]
    use_when: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    gradient_norm: ClassVar[Literal["exact", "sketch"]] = "exact"
    allows_clipping: ClassVar[bool] = False
    average_exponent: ClassVar[float | None] = None
    gradient_share: ClassVar[float] = 0.0
    direction: ClassVar[Literal["gradient", "whitened"]] = "gradient"
    direction_lr: ClassVar[float | None] = None
    allows_direction: ClassVar[bool] = False
    default_lr: ClassVar[float | None] = 1.0

    @abstractmethod
    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """Step sizes for ``lr = 1``: not negative, and never NaN for finite measurements.

        Args:
            measurement: lengths at the factors as they are.
            line: what else can be asked; an optimizer always gives one, and rules that ask nothing do without.

        Raises:
            LorateError: the loss that the rule needs is not known, or out of its range.
        """

    def on_fault(self, fault: str, measurement: Measurement, line: Line) -> str:
        """What to do about a step that cannot be taken since its loss or gradient is not finite.

        Args:
            fault: a sentence that names what is not finite.
            measurement: with the values that are not finite.
            line: its ``last`` may be to blame, and be taken back.

        Returns:
            The sentence to show.
        """
        return fault

    def proved_decrease(self, measurement: Measurement, sizes: StepSizes, multiplier: float) -> float | None:
        """The decrease that is proved if the step is multiplied by a number up to 1.

        It is concave in the multiplier for the rules that move along the gradient, so its share is kept.

        Args:
            measurement: that the rule answered.
            sizes: its answer.
            multiplier: ``lr`` times damping.
        """
        return None if sizes.guarantee is None else multiplier * sizes.guarantee

    @property
    def wants_replay(self) -> bool:
        """Whether the next step may ask for the loss before its last move, so that its random state is kept."""
        return "last-line" in self.needs

    def notes(self) -> dict[str, float | None]:
        """Numbers of the step just answered for its record: ``smoothness``, ``average_slope``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers: numbers, texts, None, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember it again."""
        if state:
            raise NotImplementedError(f"rule {self.name!r} saves what it remembers and must load it too")


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
