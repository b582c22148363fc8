"""What an interrupted run goes on from: its own options, the last good checkpoint, and what was found damaged."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.jsonl import iterate_jsonl
from lorate.monitor.record import is_complete
from lorate.runs import RunDirectory
from lorate.runs.digests import changed_records
from lorate.runs.facts import versions
from lorate.training.checkpoints import Checkpoint, checkpoints
from lorate.training.config import TrainConfig
from lorate.training.description import PACKAGES


@dataclass(frozen=True)
class Recovery:
    """Where a run goes on.

    Attributes:
        config: its options.
        checkpoint: the one to load; None to begin at step 0.
        notes: sentences about what was damaged, and what is used instead.
    """

    config: TrainConfig
    checkpoint: Checkpoint | None
    notes: list[str]

    @property
    def step(self) -> int:
        """Steps done so far."""
        return 0 if self.checkpoint is None else self.checkpoint.step


def recover(run: RunDirectory, steps: int | None = None) -> Recovery:
    """Look at what a run left behind, and change nothing.

    Args:
        run: the run directory.
        steps: train to this many steps instead of the run's own number.

    Raises:
        LorateError: the options are lost or were changed, or no checkpoint is good though there was one.
    """
    notes: list[str] = []
    info = run.read_run(notes)
    own = _own_options(run, info, notes)
    config = TrainConfig.from_mapping(own, source=str(run.config))
    records = _Records.of(iterate_jsonl(run.metrics, notes))
    for file, repeats in ((run.metrics, records.repeats), *((f, _repeats(f)) for f in (run.layers, run.evaluations))):
        if repeats:
            notes.append(f"{file.name} holds steps twice, or not in their order.")
    checkpoint = _choose(run, records, config.checkpoint_interval, notes)
    notes += _other_versions(info)
    if steps is not None:
        config = TrainConfig.from_mapping({**own, "steps": steps}, source=str(run.config))
    return Recovery(config, checkpoint, notes)


@dataclass(frozen=True)
class _Records:
    """Which steps ``metrics.jsonl`` holds: each of ``1..whole`` in order, perhaps again, and none beyond ``last``."""

    whole: int
    last: int
    repeats: bool

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "_Records":
        whole = last = 0
        repeats = False
        for record in records:
            if is_complete(record):
                repeats |= record["step"] <= last
                last = max(last, record["step"])
                whole += record["step"] == whole + 1
        return cls(whole, last, repeats)


def _repeats(file: Path) -> bool:
    """Whether a step follows a later one."""
    steps = [step for record in iterate_jsonl(file) if isinstance(step := record.get("step"), (int, float))]
    return any(later < earlier for earlier, later in pairwise(steps))


def _other_versions(info: Mapping[str, Any]) -> list[str]:
    """What is installed now and was not when the run began: its numbers are no longer those of a run at one go."""
    before = {"lorate": info["lorate"]} | info.get("versions", {})
    here = versions(name for name in ("lorate", *PACKAGES) if name in before)
    changed = [f"{name} {before[name]}, now {now}" for name, now in here.items() if before.get(name, now) != now]
    return [f"The run began with {'; '.join(changed)}: numbers may round differently."] if changed else []


def _own_options(run: RunDirectory, info: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The options of ``config.yaml``, or their copy in ``run.json``."""
    kept = info.get("config")
    try:
        options = run.read_config()
    except LorateError as error:
        if not isinstance(kept, dict):
            raise
        notes.append(f"{error} The options in run.json are used.")
        return kept
    for name, value in kept.items() if isinstance(kept, dict) else ():
        if name == "steps" and options.get(name) != value:  # as after a kill between the two files
            notes.append(f"config.yaml says steps: {options.get(name)!r}, run.json {value!r}; config.yaml is used.")
        elif options.get(name) != value:
            raise LorateError(
                f"{run.config} says {name}: {options.get(name)!r}, but the run began with {value!r}, as run.json says, "
                "and a resumed run keeps its options; put the old value back, or train a new run with --config."
            )
    return options


def _choose(run: RunDirectory, records: _Records, interval: int, notes: list[str]) -> Checkpoint | None:
    """The last good checkpoint whose steps all have their record, else the last good one."""
    faults: dict[Checkpoint, str] = {}
    unrecorded = None
    for checkpoint in checkpoints(run.checkpoints):
        if (fault := checkpoint.fault()) is not None:
            faults[checkpoint] = fault
        elif checkpoint.step <= records.whole and not changed_records(checkpoint.path):
            return _used(checkpoint, faults, unrecorded, records, notes)
        else:
            unrecorded = unrecorded or checkpoint
    if unrecorded is not None:
        notes += [_sentence(*item) for item in faults.items()]
        notes += _lost(unrecorded, records)
        notes.append(f"No earlier checkpoint can make this again; the run goes on from step {unrecorded.step}.")
        return unrecorded
    if records.last > interval or any(c.is_sealed or c.step < records.last for c in faults):
        found = " ".join(_sentence(*item) for item in faults.items()) or "there is none."
        raise LorateError(
            f"No checkpoint of {run.path} can be used: {found} Nothing was changed; put back a copy of a checkpoint, "
            "or start the run over with --force and its own options (see config.yaml)."
        )
    notes += [f"{_sentence(*item)} The run starts over." for item in faults.items()]
    return None


def _used(
    checkpoint: Checkpoint,
    faults: Mapping[Checkpoint, str],
    unrecorded: Checkpoint | None,
    records: _Records,
    notes: list[str],
) -> Checkpoint:
    notes += [_sentence(*item) for item in faults.items()]
    if unrecorded is not None:
        notes += _lost(unrecorded, records)
    if faults or unrecorded is not None:
        notes.append(f"The run goes on from {checkpoint.path.name}.")
    return checkpoint


def _lost(checkpoint: Checkpoint, records: _Records) -> list[str]:
    """What the files of records should hold by a checkpoint and do not."""
    lost = changed_records(checkpoint.path)
    if records.whole < checkpoint.step:
        lost.append(f"metrics.jsonl lacks steps from {records.whole + 1} to {checkpoint.step} at most.")
    return lost


def _sentence(checkpoint: Checkpoint, fault: str) -> str:
    return f"{checkpoint.path.name}{'' if fault.startswith('is ') else ':'} {fault}."
