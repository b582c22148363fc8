"""When a training run of a sweep is lost."""

import math

FACTOR, STEPS = 3.0, 10


class Divergence:
    """Sees when a run has diverged: its loss is not finite, or stayed above `FACTOR` times the first for `STEPS` steps.

    >>> divergence = Divergence()
    >>> [divergence.fault(loss) for loss in [1.0, *[4.0] * 10]][-2:]
    [None, 'the loss stayed above 3 times the first one for 10 steps']
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._high = 0

    def fault(self, loss: float) -> str | None:
        """Why the run is lost with its next loss; None if it is not."""
        self._first = loss if self._first is None else self._first
        self._high = self._high + 1 if loss > FACTOR * self._first else 0
        if not math.isfinite(loss):
            return "the loss is not finite"
        if self._high == STEPS:
            return f"the loss stayed above {FACTOR:g} times the first one for {STEPS} steps"
        return None
