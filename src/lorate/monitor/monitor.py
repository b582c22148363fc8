"""Watch an optimizer: one line per step on disk, alarms as they happen."""

import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from lorate import ranks
from lorate.errors import LorateError
from lorate.jsonl import JsonlWriter, Record, iterate_jsonl
from lorate.monitor.alarm import Alarm, OnAlarm
from lorate.monitor.checks import CHECKS, skipped
from lorate.monitor.history import History
from lorate.monitor.layers import LayerRecords, layers_are_due
from lorate.monitor.observed import Again, Observed
from lorate.monitor.own_run import OwnRun
from lorate.monitor.place import records_place
from lorate.monitor.record import has_all_numbers, is_complete, step_record
from lorate.monitor.setting import Setting
from lorate.monitor.silence import Silence
from lorate.optim import LoraOptimizer

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
        full_batch: every step sees the whole training set, so that the run's inequalities can be certified; without it
            the slopes on unseen batches tell how the true loss changes. See `lorate certify`.
        lower_bound: a number that the loss never goes below, whatever the weights; 0 for the usual losses.
        on_alarm: ``"warn"``: only report. ``"stop"``: set `should_stop` at a diverging or non-finite alarm.
            ``"halve"``: halve the step size at such an alarm and at every step that was skipped because something was
            not finite, for the rest of the run.
        resume_at: last step that the resumed run keeps; later records are dropped from the files. None starts over.
        again: of a full-batch run: evaluates the loss at the weights as they are, after each step; the certificate
            checks that the next step began with it.
        optimizer: seen from its first step on if given here; needed for one that is not lorate's, with ``model``.
        model: what ``optimizer`` trains.

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
        again: Again | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        model: nn.Module | None = None,
    ) -> None:
        if on_alarm not in get_args(OnAlarm):
            raise LorateError(f"on_alarm must be one of {', '.join(get_args(OnAlarm))}, got {on_alarm!r}")
        self.on_alarm = on_alarm
        self._full_batch, self._lower_bound = full_batch, lower_bound
        self._directory = self._place = None if directory is None else Path(directory)
        self._again, self._model = again, model
        self._observed = None if optimizer is None else self._observe(optimizer)
        self._begin(resume_at)

    def _begin(self, resume_at: int | None) -> None:
        self.should_stop = False
        self.record: Record | None = None
        self.samples = self.tokens = 0
        self._history, self._silence = History(), Silence()
        self._raised: dict[str, int] = {}
        self._setting: Setting | None = None
        self._started = time.monotonic()
        self._metrics: JsonlWriter | None = None
        self._layers: LayerRecords | None = None
        self._own_run: OwnRun | None = None
        if self._directory is not None and ranks.is_main():
            self._own_run = OwnRun(self._directory)
            self._open(self._directory, resume_at)
        elif self._directory is not None:
            self._layers = LayerRecords(None)

    def go_on(self, step: int) -> None:
        """Record a training that begins now, perhaps after another one that was recorded here.

        Where the other one ended, its records go on; from an earlier step on they are dropped; at step 0 a new run
        begins, in a directory of its own, ``NAME-2``.

        Args:
            step: steps that the optimizer has taken.
        """
        if self.record is None:
            return
        if self.record["step"] != step:
            self.end("interrupted")
            if step == 0 and self._place is not None:
                self._directory = _next_to(self._place)
            self._begin(step or None)
        self.should_stop = False
        if self._directory is not None and self._own_run is not None and self._metrics is None:
            self._open(self._directory, step)

    def _open(self, directory: Path, resume_at: int | None) -> None:
        run = records_place(directory, goes_on=resume_at is not None)
        self._metrics, self._layers = JsonlWriter(run.metrics), LayerRecords(run.layers, resume_at)
        if resume_at is not None:
            self._metrics.truncate_after(resume_at)
            for record in iterate_jsonl(run.metrics) if self.record is None else ():
                if is_complete(record):
                    self._recall(record)

    def _recall(self, record: Record) -> None:
        """Go on where a record of the interrupted run left off."""
        if record["skipped"] is not None or has_all_numbers(record):
            self._history.add(record)
        for alarm in record["alarms"]:
            self._raised[alarm["kind"]] = record["step"]
        self.record, self.samples, self.tokens = record, record["samples"], record["tokens"]
        self._started = time.monotonic() - record["seconds"]

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        samples: int = 0,
        tokens: int = 0,
        loss: Tensor | float | None = None,
        data: Any = None,
    ) -> list[Alarm]:
        """Record the step that the optimizer has just taken.

        Args:
            optimizer: after ``optimizer.step()``; one that is not lorate's was given to the monitor before.
            samples: samples in the batch of this step, in this process.
            tokens: tokens in it likewise.
            loss: of the step, for an optimizer that is not lorate's; lorate's know it.
            data: of a full-batch run: what the step saw, for the certificate; its hash is recorded.

        Returns:
            The alarms that this step raised; empty most of the time.

        Raises:
            LorateError: the optimizer has not taken a step yet, or is not lorate's and was not given before.
        """
        if self._observed is None or self._observed.optimizer is not optimizer:
            self._observed = self._observe(optimizer)
        observed, step = self._observed, self._observed.step(loss)
        record = step_record(step, samples=samples, tokens=tokens, seconds=time.monotonic() - self._started)
        record |= observed.evidence(data)
        self._history.add(record)
        alarms = self._alarms(record, self._silence.after(step, [layer.name for layer in observed.source.layers]))
        # only the main process knows the past of a run that was resumed
        harm = ranks.is_main() and self._is_harmful(record, alarms)
        samples, tokens, is_harmed = ranks.total((samples, tokens, int(harm)), observed.device)
        self.samples, self.tokens = self.samples + samples, self.tokens + tokens
        record |= {"samples": self.samples, "tokens": self.tokens, "change_bound": self._history.slopes.bound}
        record["alarms"] = [asdict(alarm) for alarm in alarms]
        if self._own_run is not None:
            self._own_run.begin(optimizer)
        if self._setting is None or (self._full_batch and layers_are_due(step)):
            self._settle(observed)
        self.record = record
        if self._metrics is not None:
            self._metrics.write(record)
        if self._layers is not None:
            self._layers.add(observed.source, step)
        if is_harmed:
            self._react(optimizer)
        return alarms

    def _settle(self, observed: Observed) -> None:
        """Write the facts if they are new; what was known of a run that goes on stays known."""
        setting = observed.setting(self._lower_bound)
        if self._directory is not None and ranks.is_main() and setting != self._setting:
            setting.write(self._directory, goes_on=self.record is not None)
            self._setting = setting

    def _observe(self, optimizer: torch.optim.Optimizer) -> Observed:
        return Observed(optimizer, self._model, full_batch=self._full_batch, again=self._again)

    def watch(self, optimizer: LoraOptimizer) -> torch.utils.hooks.RemovableHandle:
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
        self.end("finished")

    def end(self, status: str) -> None:
        """Close, and say how the run ended: ``"finished"``, ``"interrupted"`` or ``"failed"``."""
        status = "stopped" if status == "finished" and self.should_stop else status
        with ExitStack() as files:  # closed also if a full disk takes no further line
            for writer in (self._metrics, self._layers):
                if writer is not None:
                    files.callback(writer.close)
            files.callback(self._let_go)
            if (observed := self._observed) is not None:
                files.callback(observed.remove)
                if self._setting is not None:
                    self._settle(observed)
                self._observed = None
        if self._own_run is not None and self.record is not None:
            self._own_run.end(status, self.record["seconds"])

    def _let_go(self) -> None:
        self._metrics = self._layers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.end("interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")

    def _alarms(self, record: Record, silence: Alarm | None) -> list[Alarm]:
        alarm = skipped(record) or next(filter(None, (check(self._history) for check in CHECKS)), silence)
        if alarm is not None and self._is_due(alarm, record["step"]):
            self._raised[alarm.kind] = record["step"]
            return [alarm]
        return []

    def _is_due(self, alarm: Alarm, step: int) -> bool:
        """Whether the alarm is new: not raised before, or long ago, or a step was skipped after one that was not."""
        before = self._raised.get(alarm.kind)
        if before is None or step - before >= REPEAT_AFTER:
            return True
        return alarm.kind == "non-finite" and self.record is not None and self.record["skipped"] is None

    @staticmethod
    def _is_harmful(record: Record, alarms: list[Alarm]) -> bool:
        fault = skipped(record)
        return any(alarm is not None and alarm.kind in ("diverging", "non-finite") for alarm in (fault, *alarms))

    def _react(self, optimizer: torch.optim.Optimizer) -> None:
        if self.on_alarm == "stop":
            self.should_stop = True
        elif self.on_alarm == "halve" and isinstance(optimizer, LoraOptimizer):
            optimizer.dampen(0.5)


def _next_to(directory: Path) -> Path:
    """The first of ``NAME-2``, ``NAME-3``, ... that is not there."""
    return next(path for n in count(2) if not (path := directory.with_name(f"{directory.name}-{n}")).exists())
