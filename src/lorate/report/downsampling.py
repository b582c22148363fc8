"""Thin out a long series of records for drawing, without losing its spikes.

The records are cut into buckets of equal length. Of each bucket the first and the last record stay, those with
the lowest and the highest value of every drawn quantity, and the first one of every tag (an alarm, a skipped
step). A curve through the kept records has the same envelope as one through all of them. Means are taken over
all records. Memory is proportional to the number of buckets, whatever the length of the series.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lorate.jsonl import Record
from lorate.report.words import number, step_of

Tags = Callable[[Record], Iterable[str]]


@dataclass
class _Bucket:
    """A stretch of consecutive records: the kept ones by position, the extremes, and the sums for the means."""

    first: int
    last: int
    kept: dict[int, Record]
    lowest: dict[str, tuple[float, int]] = field(default_factory=dict)
    highest: dict[str, tuple[float, int]] = field(default_factory=dict)
    tagged: dict[str, int] = field(default_factory=dict)
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, start: int, records: list[Record], keys: Sequence[str], tags: Tags) -> "_Bucket":
        """The bucket of consecutive records, the first of which is at position ``start``."""
        bucket = cls(start, start + len(records) - 1, dict(enumerate(records, start)))
        for key in keys:
            values = [
                (value, position)
                for position, record in enumerate(records, start)
                if (value := number(record.get(key))) is not None
            ]
            if values:
                bucket.lowest[key] = min(values)
                bucket.highest[key] = max(values)
                bucket.sums[key] = (sum(value for value, _ in values), len(values))  # fsum raises where this is inf
        for position, record in enumerate(records, start):
            for tag in tags(record):
                bucket.tagged.setdefault(tag, position)
        bucket.forget()
        return bucket

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def absorb(self, later: "_Bucket") -> None:
        """Take in the bucket that follows."""
        self.last = later.last
        self.kept.update(later.kept)
        for key, extreme in later.lowest.items():
            self.lowest[key] = min(self.lowest.get(key, extreme), extreme)
        for key, extreme in later.highest.items():
            self.highest[key] = max(self.highest.get(key, extreme), extreme)
        for tag, position in later.tagged.items():
            self.tagged.setdefault(tag, position)
        for key, (total, count) in later.sums.items():
            before = self.sums.get(key, (0.0, 0))
            self.sums[key] = (before[0] + total, before[1] + count)
        self.forget()

    def forget(self) -> None:
        """Drop the records that are no longer first, last, extreme or tagged."""
        wanted = {self.first, self.last, *self.tagged.values()}
        wanted.update(position for _, position in self.lowest.values())
        wanted.update(position for _, position in self.highest.values())
        self.kept = {position: self.kept[position] for position in sorted(wanted)}


@dataclass(frozen=True)
class Series:
    """Records to draw, thinned out or not.

    Attributes:
        records: the kept records, in order.
        total: how many records there were.
        bucket: how many records one bucket covers; 1 when nothing was left out.
        means: for each quantity one ``(step of the bucket's last record, mean, records)`` a bucket that has a value.
    """

    records: Sequence[Record] = ()
    total: int = 0
    bucket: int = 1
    means: Mapping[str, Sequence[tuple[float, float, int]]] = field(default_factory=dict)


def downsample(records: Iterable[Record], keys: Sequence[str], buckets: int = 400, tags: Tags = lambda _: ()) -> Series:
    """Keep what matters of a series that may be too long to draw.

    Args:
        records: the records, in order; read once.
        keys: the quantities whose extremes are kept and whose means are taken; a value that is not a finite
            number counts as missing.
        buckets: at most twice this number of buckets; series of up to ``2 * buckets`` records are kept whole.
        tags: marks of a record; the first record of each mark in a bucket is kept.

    Returns:
        At most ``2 * buckets * (2 + 2 * len(keys) + number of tags)`` records.

    >>> spiky = [{"step": i, "loss": 99.0 if i == 617 else 1.0} for i in range(10_000)]
    >>> series = downsample(spiky, ["loss"], buckets=10)
    >>> len(series.records) < 100, max(r["loss"] for r in series.records), series.total
    (True, 99.0, 10000)
    """
    width = 1
    total = 0
    done: list[_Bucket] = []
    chunk: list[Record] = []

    def close_chunk() -> None:
        nonlocal width
        bucket = _Bucket.of(total - len(chunk), chunk, keys, tags)
        chunk.clear()
        if done and done[-1].count < width:
            done[-1].absorb(bucket)
        else:
            done.append(bucket)
        if len(done) > 2 * buckets:  # too many: buckets of twice the width
            width *= 2
            for left, right in zip(done[::2], done[1::2], strict=False):
                left.absorb(right)
            del done[1::2]

    for record in records:
        chunk.append(record)
        total += 1
        if len(chunk) == min(width, 4096):
            close_chunk()
    if chunk:
        close_chunk()
    means: dict[str, list[tuple[float, float, int]]] = {key: [] for key in keys}
    kept: list[Record] = []
    for place, bucket in enumerate(done):
        step = step_of(bucket.kept[bucket.last])
        kept.extend(bucket.kept.values())
        for key, (value, count) in bucket.sums.items():
            means[key].append((place * width if step is None else step, value / count, count))
    return Series(records=kept, total=total, bucket=width, means=means)
