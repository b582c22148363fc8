"""How a workload's model is trained: the rule or baseline, its constant, how long, on what batches."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    rule: str  # a rule of `lorate.RULES`, or a baseline: ``"adamw"``, ``"sgd"``
    lr: float | None  # the rule's constant or the baseline's learning rate; None: the rule's default
    steps: int  # at most
    batch: int | None  # examples a step; None: the whole training set
    seed: int  # of the data order
    # L, for the rules that need one; None: the workload's own, where it is known in closed form
    smoothness: float | None = None
    schedule: Literal["constant", "cosine"] = "constant"  # multiplies ``lr``: not at all, or by half a cosine down to 0
    warmup: int = 0  # steps over which ``lr`` rises from 0
    # steps between two measurements of the held-out loss, step 0 included; None: at the end only
    validate_every: int | None = None
    keep: int = 250  # most records that are kept; longer runs keep steps that are evenly spaced in the logarithm
