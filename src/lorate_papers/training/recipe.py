"""How a workload's model is trained: the rule or baseline, its constant, how long, on what batches."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        rule: a rule of `lorate.RULES`, or a baseline: ``"adamw"``, ``"sgd"``.
        lr: the rule's constant or the baseline's learning rate; None: the rule's default.
        steps: at most.
        batch: examples a step; None: the whole training set.
        seed: of the data order.
        smoothness: L, for the rules that need one; None: the workload's own, where it is known in closed form.
        schedule: multiplies ``lr``: not at all, or by half a cosine down to 0.
        warmup: steps over which ``lr`` rises from 0.
        validate_every: steps between two measurements of the held-out loss, step 0 included; None: at the end only.
        keep: most records that are kept; longer runs keep steps that are evenly spaced in the logarithm.
    """

    rule: str
    lr: float | None
    steps: int
    batch: int | None
    seed: int
    smoothness: float | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    validate_every: int | None = None
    keep: int = 250
