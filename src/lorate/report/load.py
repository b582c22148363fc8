"""Read a run directory for the report: whatever is there, in bounded memory, without raising on damaged files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from lorate.errors import LorateError
from lorate.jsonl import Record, iterate_jsonl
from lorate.report.heatmap import LayerNorms, layer_norms
from lorate.report.track import Track, alarms_of, track
from lorate.report.windows import window_track
from lorate.report.words import step_of
from lorate.runs import RunDirectory
from lorate.runs.digests import changed_records
from lorate.runs.reading import read_json, real

MOST_ALARMS = 200
"""Rows of the table of alarms; more are counted only."""


@dataclass
class AlarmGroup:
    """The same alarm at consecutive steps."""

    kind: str
    message: str
    remedy: str
    first: float
    last: float
    count: int = 1


@dataclass
class Tally:
    """What is counted over all steps, also over those that are not drawn."""

    alarms: list[AlarmGroup] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    unlisted: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    _open: dict[str, AlarmGroup] = field(default_factory=dict)

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Hand the records on and count their alarms and skipped steps."""
        for record in records:
            if record.get("skipped"):
                reason = str(record["skipped"])[:200]
                reason = reason if reason in self.skipped or len(self.skipped) < 20 else "other reasons"
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
            for alarm in alarms_of(record):
                self._count(alarm, step_of(record) or 0.0)
            yield record

    def _count(self, alarm: Record, step: float) -> None:
        kind = str(alarm.get("kind") or "alarm")[:40]
        kind = kind if kind in self.kinds or len(self.kinds) < 20 else "other"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        group = self._open.get(kind)
        if group is not None and step - group.last <= 1:
            group.last, group.count = step, group.count + 1
            return
        self._open[kind] = AlarmGroup(
            kind, str(alarm.get("message") or ""), str(alarm.get("remedy") or ""), first=step, last=step
        )
        if len(self.alarms) < MOST_ALARMS:
            self.alarms.append(self._open[kind])
        else:
            self.unlisted += 1

    @property
    def alarm_total(self) -> int:
        """How many alarms there were."""
        return sum(self.kinds.values())

    @property
    def skipped_total(self) -> int:
        """How many steps were not taken."""
        return sum(self.skipped.values())


@dataclass(frozen=True)
class RunData:
    """All that the report knows of a run.

    Attributes:
        path: the run directory.
        name: unique name among the runs of the report.
        info: ``run.json``.
        track: what is drawn against steps.
        layers: norms of each layer.
        windows: signal and drift of each window.
        samples: generations, each with ``prompt``, ``before``, ``after``.
        tally: alarms and skipped steps.
        problems: sentences about what could not be read.
    """

    path: Path
    name: str
    info: Record
    track: Track
    layers: LayerNorms
    windows: Track
    samples: Sequence[Mapping[str, str]]
    tally: Tally
    problems: Sequence[str]

    def part(self, key: str) -> Record:
        """A map in ``run.json``; empty if it is missing or something else."""
        value = self.info.get(key)
        return value if isinstance(value, dict) else {}

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return self.track.rule

    @property
    def status(self) -> str:
        """running, finished, stopped, interrupted, failed, or empty."""
        return str(self.info.get("status") or "")

    @property
    def last(self) -> Record:
        """The last step record; empty if there is none."""
        records = self.track.series.records
        return records[-1] if records else {}

    @property
    def last_step(self) -> int:
        """Number of the last recorded step; 0 if there is none."""
        return int(step_of(self.last) or 0)


def load_run(path: Path, name: str | None = None) -> RunData:
    """Read a run directory: it has a ``run.json`` written by lorate, every other file may be missing or damaged.

    Args:
        path: the directory.
        name: what to call the run; the name of the directory by default.

    Raises:
        LorateError: the directory is not a run.
    """
    run = RunDirectory.open(path)
    problems: list[str] = []
    info = run.read_run(problems)
    checkpoints = sorted(run.checkpoints.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    problems += changed_records(checkpoints[-1]) if checkpoints else []
    rule_facts = info.get("rule")
    rule = str(rule_facts.get("name") or "") if isinstance(rule_facts, dict) else ""
    name = name or real(run.path).name
    tally = Tally()
    curves = track(
        name if rule and rule in name else f"{name} ({rule})" if rule else name,
        rule,
        tally.watch(iterate_jsonl(run.metrics, problems)),
        tally.watch(iterate_jsonl(run.evaluations, problems)),
    )
    norms = layer_norms(iterate_jsonl(run.layers, problems))
    windows = window_track(curves.label, rule, iterate_jsonl(run.layers))
    return RunData(run.path, name, info, curves, norms, windows, _samples(run.samples, problems), tally, problems)


def load_runs(paths: Sequence[Path]) -> list[RunData]:
    """Read several runs, each once, under names that tell them apart."""
    unique = list(dict.fromkeys(real(path) for path in paths))
    if not unique:
        raise LorateError("A report needs at least one run directory.")
    names = [path.name for path in unique]
    labels: list[str] = []
    for path, name in zip(unique, names, strict=True):
        label = name if names.count(name) == 1 else f"{path.parent.name}/{name}"
        free = (f"{label} ({attempt})" if attempt > 1 else label for attempt in count(1))
        labels.append(next(candidate for candidate in free if candidate not in labels))
    return [load_run(path, label) for path, label in zip(unique, labels, strict=True)]


def _samples(path: Path, problems: list[str]) -> list[dict[str, str]]:
    try:
        samples = read_json(path)
    except FileNotFoundError:
        return []
    except (OSError, LorateError):
        samples = None
    if not isinstance(samples, list):
        problems.append(f"{path.name} cannot be read and was left out.")
        return []
    return [
        {key: "" if sample.get(key) is None else str(sample[key]) for key in ("prompt", "before", "after")}
        for sample in samples
        if isinstance(sample, dict)
    ]
