"""A run's past at a bounded cost: the last records in full, the older ones ever more sparsely."""

from collections import deque

from lorate.jsonl import Record
from lorate.monitor.slopes import SlopeSum


class History:
    """Records of the steps that were taken, for looking back over a short or a long span.

    Args:
        recent: how many of the last records are kept in full.
        sparse: how many older ones are kept at most; when there are more, every second one goes.

    Attributes:
        slopes: the sum of the slopes on unseen batches, since the last move without one.
    """

    def __init__(self, recent: int = 200, sparse: int = 512) -> None:
        self.recent: deque[Record] = deque(maxlen=recent)
        self.first: Record | None = None
        self.count = 0
        self.slopes = SlopeSum()
        self._sparse: list[Record] = []
        self._limit = sparse
        self._every = 1

    def add(self, record: Record) -> None:
        """Take in the record of one step; one that was not taken counts by the slope it saw, no more."""
        if (slope := record.get("slope")) is not None:
            self.slopes.add(slope, record["moved_sq"])
        if record.get("skipped") is not None:
            return
        if slope is None:  # a move that was not seen from its end, as where a run was resumed
            self.slopes = SlopeSum()
        self.first = self.first or record
        self.count += 1
        self.recent.append(record)
        if self.count % self._every == 0:
            self._sparse.append(record)
        if len(self._sparse) > self._limit:
            self._sparse = self._sparse[1::2]
            self._every *= 2

    def last(self, count: int) -> list[Record]:
        """The last ``count`` records, or fewer if there are fewer."""
        return list(self.recent)[-count:]

    def near_step(self, step: float) -> Record:
        """The kept record whose step is nearest."""
        return min([*self._sparse, *self.recent], key=lambda record: abs(record["step"] - step))
