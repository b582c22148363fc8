"""What the figures draw of one run: its step records and held-out losses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lorate.jsonl import Record
from lorate.report.downsampling import Series, downsample
from lorate.report.words import number, step_of

QUANTITIES = (
    "loss",
    "eta",
    "stacked_norm",
    "a_norm",
    "b_norm",
    "grad_norm",
    "weight_grad_norm",
    "average_slope",
)
"""The entries of a step record that are drawn."""


@dataclass(frozen=True)
class Track:
    """One run in a figure.

    Attributes:
        label: name in the legend.
        rule: name of the rule, which gives the colour.
        series: the step records; see `track`.
        evaluations: records with ``step``, ``eval_loss`` and ``eval_loss_se``.
    """

    label: str
    rule: str
    series: Series = field(default_factory=Series)
    evaluations: Sequence[Record] = ()

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Steps and values of a quantity; NaN where a step has no value, so that the line is broken there."""
        steps, values = [], []
        for record in self.series.records:
            step = step_of(record)
            if step is not None:
                value = number(record.get(key))
                steps.append(step)
                values.append(float("nan") if value is None else value)
        return steps, values

    def smoothed(self, key: str) -> tuple[list[float], list[float], float]:
        """An exponentially weighted mean of a quantity over the steps.

        Every record counts, also those that are not drawn. The weights of the past halve every ``h`` records,
        ``h`` being a twentieth of the series and at least one record; they are normalised, so that the first
        value is the first mean.

        Returns:
            Steps, means, and the half-life ``h`` in records.
        """
        half_life = max(1.0, self.series.total / 20)
        weight = total = 0.0
        steps, means = [], []
        for step, mean, records in self.series.means.get(key, ()):
            decay = 0.5 ** (records / half_life)
            total = decay * total + (1 - decay) * mean
            weight = decay * weight + (1 - decay)
            steps.append(step)
            means.append(total / weight)
        return steps, means, half_life

    def held_out(self) -> tuple[list[float], list[float], list[float]]:
        """Steps, held-out losses and their standard errors (0 where unknown)."""
        points = [
            (step, loss, number(record.get("eval_loss_se")) or 0.0)
            for record in self.evaluations
            if (step := step_of(record)) is not None and (loss := number(record.get("eval_loss"))) is not None
        ]
        return [p[0] for p in points], [p[1] for p in points], [abs(p[2]) for p in points]

    def alarm_steps(self) -> list[float]:
        """Steps of the kept records and evaluations that carry an alarm, in order."""
        records = (*self.series.records, *self.evaluations)
        return sorted(s for r in records if r.get("alarms") and (s := step_of(r)) is not None)

    def skipped_steps(self) -> list[float]:
        """Steps of the kept records that were not taken."""
        return [s for r in self.series.records if r.get("skipped") and (s := step_of(r)) is not None]


def record_tags(record: Record) -> Iterable[str]:
    """The marks of a step record that must survive thinning out: a skipped step, and each kind of alarm."""
    if record.get("skipped"):
        yield "skipped"
    for alarm in alarms_of(record):
        yield f"alarm {str(alarm.get('kind'))[:40]}"


def alarms_of(record: Record) -> list[Record]:
    """The alarms of a step record; what is not an alarm is passed over."""
    alarms = record.get("alarms")
    return [alarm for alarm in alarms if isinstance(alarm, dict)] if isinstance(alarms, list) else []


def track(
    label: str, rule: str, records: Iterable[Record], evaluations: Iterable[Record] = (), buckets: int = 300
) -> Track:
    """Prepare step records for drawing.

    Args:
        label: name in the legend.
        rule: name of the rule.
        records: step records in order, any number; long series are thinned out (see
            `lorate.report.downsampling`).
        evaluations: held-out losses.
        buckets: how finely a long series is drawn.
    """
    series = downsample(records, QUANTITIES, buckets, record_tags)
    held_out = downsample(evaluations, ("eval_loss",), buckets, record_tags)
    return Track(label, rule, series, held_out.records)
