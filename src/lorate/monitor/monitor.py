"""Watch an optimizer: one line a step on disk, alarms as they happen."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from lorate import ranks
from lorate.errors import LorateError
from lorate.jsonl import JsonlWriter, iterate_jsonl
from lorate.monitor.alarm import Alarm
from lorate.monitor.checks import CHECKS, skipped
from lorate.monitor.history import History
from lorate.monitor.record import has_all_numbers, is_complete, layer_record, step_record
from lorate.monitor.setting import Setting
from lorate.monitor.window import Window
from lorate.optim import LoraGradientDescent, Step
from lorate.optim.layout import Layer
from lorate.runs import RunDirectory
from lorate.runs.description import FORMAT
from lorate.runs.facts import now

OnAlarm = Literal["warn", "stop", "halve"]
LAYERS_EVERY = 10
REPEAT_AFTER = 100
"""An alarm that goes on is raised again after this many steps; skipped steps in a row are one such alarm."""


class Monitor:
    """Record every step of a run and raise alarms.

    Writes ``metrics.jsonl`` (see `lorate.monitor.record.step_record`) and ``layers.jsonl`` (norms of each layer, every
    10 steps, and how far its weight has moved since the record before, see `lorate.monitor.window.Window`) into a
    directory, each line flushed as it is written. Memory stays bounded however long the run is: a thinned-out past,
    and one copy of the adapters.

    Where several processes train together, build one in each of them and call it alike: the main process writes,
    samples and tokens are summed, and all react to what the main process finds.

    Args:
        directory: where to write; made if missing. None keeps nothing on disk.
        full_batch: every step sees the whole training set: the run can be certified, see `lorate certify`.
        lower_bound: a number that the loss never goes below, for the certificate; 0 for the usual losses.
        on_alarm: ``"warn"``: only report. ``"stop"``: set `should_stop` at a diverging or non-finite alarm.
            ``"halve"``: halve the step size at such an alarm and at every step that was skipped because something was
            not finite, for the rest of the run.
        resume_at: last step that the resumed run keeps; later records are dropped from the files. None starts anew.

    Attributes:
        should_stop: whether the training loop should end now.
        record: the last record; None before the first step.
        samples: samples seen so far, of all processes.
        tokens: tokens seen so far likewise.

    Raises:
        LorateError: the directory holds records and ``resume_at`` was not given, or ``on_alarm`` is unknown.

    Examples:
        In a plain loop::

            with Monitor("runs/one") as monitor:
                for batch in batches:
                    loss = model(batch).loss
                    loss.backward()
                    optimizer.step(loss=loss)
                    optimizer.zero_grad()
                    for alarm in monitor.update(optimizer, samples=len(batch)):
                        print(alarm.message, alarm.remedy)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        full_batch: bool = False,
        lower_bound: float = 0.0,
        on_alarm: OnAlarm = "warn",
        resume_at: int | None = None,
    ) -> None:
        if on_alarm not in get_args(OnAlarm):
            raise LorateError(f"on_alarm must be one of {', '.join(get_args(OnAlarm))}, got {on_alarm!r}")
        self.on_alarm = on_alarm
        self._full_batch, self._lower_bound = full_batch, lower_bound
        self._directory = None if directory is None else Path(directory)
        self.should_stop = False
        self.record: dict[str, Any] | None = None
        self.samples = 0
        self.tokens = 0
        self._history = History()
        self._raised: dict[str, int] = {}
        self._step: Step | None = None
        self._own_run: RunDirectory | None = None
        self._layer_table: list[Layer] = []
        self._window: Window | None = None
        self._started = time.monotonic()
        self._metrics: JsonlWriter | None = None
        self._layers: JsonlWriter | None = None
        if self._directory is not None and ranks.is_main():
            self._open(self._directory, resume_at)

    def _open(self, directory: Path, resume_at: int | None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(directory)
        metrics, layers, setting = run.metrics, run.layers, run.inside("setting.json")
        for file in (metrics, layers, setting) if resume_at is None else ():
            if file.exists() and (not file.is_file() or file.stat().st_size):
                raise LorateError(
                    f"{file} is there: the directory holds the records of a run; give another one, or resume_at=step"
                )
        self._metrics, self._layers = JsonlWriter(metrics), JsonlWriter(layers)
        if resume_at is not None:
            self._metrics.truncate_after(resume_at)
            self._layers.truncate_after(resume_at)
            for record in iterate_jsonl(metrics):
                if is_complete(record):
                    self._recall(record)

    def _recall(self, record: dict[str, Any]) -> None:
        """Go on where a record of the interrupted run left off."""
        if record["skipped"] is None and has_all_numbers(record):
            self._history.add(record)
        for alarm in record["alarms"]:
            self._raised[alarm["kind"]] = record["step"]
        self.record, self.samples, self.tokens = record, record["samples"], record["tokens"]
        self._started = time.monotonic() - record["seconds"]

    def update(self, optimizer: LoraGradientDescent, *, samples: int = 0, tokens: int = 0) -> list[Alarm]:
        """Record the step that the optimizer has just taken.

        Args:
            optimizer: after ``optimizer.step()``.
            samples: samples in the batch of this step, in this process.
            tokens: tokens in it likewise.

        Returns:
            The alarms that this step raised; empty most of the time.

        Raises:
            LorateError: the optimizer has not taken a step yet.
        """
        if optimizer.last is None:
            raise LorateError("monitor.update(optimizer) comes after optimizer.step(): no step was taken yet")
        seconds = time.monotonic() - self._started
        record = step_record(optimizer.last, samples=samples, tokens=tokens, seconds=seconds)
        if record["skipped"] is None:
            self._history.add(record)
        alarms = self._alarms(record)
        # only the main process knows the past of a run that was resumed
        harm = ranks.is_main() and self._is_harmful(record, alarms)
        device = optimizer.param_groups[0]["params"][0].device
        samples, tokens, is_harmed = ranks.total((samples, tokens, int(harm)), device)
        self.samples += samples
        self.tokens += tokens
        record |= {"samples": self.samples, "tokens": self.tokens, "alarms": [asdict(alarm) for alarm in alarms]}
        if self._step is None and self._directory is not None and ranks.is_main():
            setting = Setting.of(optimizer, full_batch=self._full_batch, lower_bound=self._lower_bound)
            setting.write(self._directory)
            self._describe(optimizer, self._directory)
        self.record = record
        if self._metrics is not None:
            self._metrics.write(record)
        self._step, self._layer_table = optimizer.last, optimizer.layers
        if self._directory is not None:
            self._record_layers(optimizer, optimizer.last)
        if is_harmed:
            self._react(optimizer)
        return alarms

    def watch(self, optimizer: LoraGradientDescent) -> torch.utils.hooks.RemovableHandle:
        """Record every step of an optimizer from now on, without a call in the loop.

        Returns:
            A handle whose ``remove()`` ends it.
        """

        def update(*_: Any) -> None:
            self.update(optimizer)

        return optimizer.register_step_post_hook(update)

    def close(self) -> None:
        """Write the layers' norms at the last step, and close the files; nothing happens the second time.

        The run counts as finished, or as stopped where the monitor asked for it; a ``with`` block that an error leaves
        makes it interrupted (Ctrl-C) or failed.
        """
        self._end("stopped" if self.should_stop else "finished")

    def _end(self, status: str) -> None:
        with ExitStack() as files:  # closed also if a full disk takes no further line
            for writer in (self._metrics, self._layers):
                if writer is not None:
                    files.callback(writer.close)
            files.callback(self._let_go)
            if self._step is not None and not _layers_are_due(self._step):
                self._write_layers(self._step)
        if self._own_run is not None and self.record is not None:
            ended = {"status": status, "seconds": self.record["seconds"]}
            self._own_run.write_run({**self._own_run.read_run(), **ended})
            self._own_run = None

    def _let_go(self) -> None:
        self._metrics = self._layers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._end("interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")

    def _alarms(self, record: Mapping[str, Any]) -> list[Alarm]:
        fault = skipped(record)
        found = [fault] if fault else [alarm for check in CHECKS if (alarm := check(self._history)) is not None]
        fresh = [alarm for alarm in found[:1] if self._is_due(alarm, record["step"])]
        for alarm in fresh:
            self._raised[alarm.kind] = record["step"]
        return fresh

    def _is_due(self, alarm: Alarm, step: int) -> bool:
        """Whether the alarm is new: not raised before, or long ago, or a step was skipped after one that was not."""
        before = self._raised.get(alarm.kind)
        if before is None or step - before >= REPEAT_AFTER:
            return True
        return alarm.kind == "non-finite" and self.record is not None and self.record["skipped"] is None

    @staticmethod
    def _is_harmful(record: Mapping[str, Any], alarms: list[Alarm]) -> bool:
        fault = skipped(record)
        return any(alarm is not None and alarm.kind in ("diverging", "non-finite") for alarm in (fault, *alarms))

    def _react(self, optimizer: LoraGradientDescent) -> None:
        if self.on_alarm == "stop":
            self.should_stop = True
        elif self.on_alarm == "halve":
            optimizer.dampen(0.5)

    def _describe(self, optimizer: LoraGradientDescent, directory: Path) -> None:
        """Make the directory a run that ``lorate report`` can draw, unless whoever runs it has done so."""
        run = RunDirectory(directory)
        if run.run.exists():
            return
        rule, lr = optimizer.rule, optimizer.param_groups[0]["lr"]
        self._own_run = run
        run.write_run(
            {
                "lorate": version("lorate"),
                "format": FORMAT,
                "status": "running",
                "started": now(),
                "rule": {
                    "name": rule.name,
                    "lr": float(lr),
                    "formula": rule.formula,
                },
                "result": None,
            }
        )

    def _record_layers(self, optimizer: LoraGradientDescent, step: Step) -> None:
        """Write the layers where it is their turn; a window ends there, and the next one begins.

        A resumed run has lost the adapters of its window's start, so that its first window begins with the first step
        it takes, as the record says.
        """
        due = _layers_are_due(step)
        if due:
            self._write_layers(step, {} if self._window is None else self._window.record(optimizer))
        if due or self._window is None:
            self._window = Window(optimizer)

    def _write_layers(self, step: Step, moved: Mapping[str, Any] | None = None) -> None:
        if self._layers is None:
            return
        if self._layers.is_empty:
            names, scaling = [x.name for x in self._layer_table], [x.scaling for x in self._layer_table]
            self._layers.write({"names": names, "scaling": scaling})
        self._layers.write(layer_record(step) | dict(moved or {}))


def _layers_are_due(step: Step) -> bool:
    return step.number == 1 or step.number % LAYERS_EVERY == 0
