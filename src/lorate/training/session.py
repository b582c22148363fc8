"""A fine-tuning run from options to a finished run directory."""

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorate import ranks
from lorate.errors import LorateError
from lorate.extras import require, require_extra
from lorate.integrations.attach import attach
from lorate.jsonl import JsonlWriter, read_jsonl
from lorate.monitor import Monitor
from lorate.runs import RunDirectory
from lorate.runs.facts import now
from lorate.runs.storage import naming_storage_errors
from lorate.tasks import marked, shown_pair
from lorate.tasks.progress import told
from lorate.training.alarm_command import Alarms
from lorate.training.checkpoints import Checkpoint, Sealer, discard_after, train_from
from lorate.training.config import CHANGES_BASE, TrainConfig
from lorate.training.description import check_same_data, describe
from lorate.training.ending import Outcome, Status, end
from lorate.training.heldout import Evaluations
from lorate.training.interruption import Interruption
from lorate.training.listener import Listener, ListeningCallback
from lorate.training.outputs import INITIAL
from lorate.training.plan import Plan, is_full_batch, make_plan
from lorate.training.preparation import Prepared, prepare
from lorate.training.processes import (
    check_processes,
    create_run,
    held,
    meet,
    noticing_lost_processes,
    open_run,
    reason,
    together,
)
from lorate.training.recovery import Recovery, recover
from lorate.training.selection import Selection
from lorate.training.trainers import assemble, move
from lorate.training.untrained import untrained


def dry_run(config: TrainConfig, listener: Listener | None = None, *, processes: int = 1) -> Plan:
    """Load data and model, count, and write nothing.

    Args:
        config: the options.
        listener: hears what happens.
        processes: how many would train together.

    Raises:
        LorateError: whatever would stop the run itself.
    """
    listener = listener or Listener()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the Trainer would wait for the other processes
        with told(listener.progress):
            prepared = prepare(config, listener.phase)
        samples = config.batch_size * config.accumulate * processes
        prepared = replace(prepared, config=prepared.config.with_steps(prepared.examples, samples))
    else:
        with told(listener.progress):
            prepared, _ = assemble(config, processes, listener.phase)
    plan = make_plan(prepared, processes)
    _announce(listener, plan, prepared)
    if prepared.encoded is not None:
        row, tokenizer = prepared.encoded.train.rows[0], prepared.base.processor
        if prepared.judged == "pairs":
            for title, parts in shown_pair(row, tokenizer, prepared.config.max_length):
                listener.example(parts, title)
        else:
            listener.example(marked(row["input_ids"], row["labels"], tokenizer))
    return plan


def train(
    config: TrainConfig,
    output: str | Path,
    *,
    force: bool = False,
    command: str = "",
    listener: Listener | None = None,
) -> Outcome:
    """Fine-tune and leave a run directory; nothing is written before data and model are known to be good.

    Where a launcher started several processes, each calls this alike; the main one's files and listener are used.

    Args:
        config: the options.
        output: the run directory to make.
        force: replace a run that is already there.
        command: how to repeat the run, for the report.
        listener: hears what happens.

    Raises:
        LorateError: the place is taken, or data, model or options do not do.
        StorageError: the disk is full, read-only or broken.
        MissingExtraError: matplotlib or jinja2 is not installed; said before the work, not after.
    """
    with noticing_lost_processes(), naming_storage_errors(Path(output)):
        meet(config.device)
        place = ranks.everyones(Path(output))[0]  # the next free number may have changed between two looks
        with together():
            RunDirectory.check_free(place, force=force)
        return _Session(config, command, listener).start(place, force)


def resume(output: str | Path, *, steps: int | None = None, listener: Listener | None = None) -> Outcome:
    """Go on with an interrupted run from its last good checkpoint; the listener hears of damage that was found.

    Args:
        output: the run directory.
        steps: train to this many steps instead of the run's own number.
        listener: hears what happens.

    Raises:
        LorateError: no such run, it has all its steps or more, its data have changed, or no checkpoint is good.
        StorageError: the disk is full, read-only or broken.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    with noticing_lost_processes(), naming_storage_errors(Path(output)):
        run = open_run(output)
        with held(run):
            with together():
                found, info = recover(run, steps), run.read_run()
                check_processes(run, info)
                if found.step > found.config.step_count:
                    raise LorateError(
                        f"{run.path} has done {found.step} steps already; give --steps {found.step} or more, or leave "
                        "it out."
                    )
                if (
                    info.get("status") == "finished"
                    and run.report.exists()
                    and (steps is None or found.step >= found.config.step_count)
                ):
                    raise LorateError(
                        f"{run.path} has finished its {found.config.steps} steps; give --steps to train on."
                    )
            return _Session(found.config, info.get("command", ""), listener).go_on(run, found)


class _Session:
    """One process' work on a run."""

    def __init__(self, config: TrainConfig, command: str, listener: Listener | None) -> None:
        self.config = config
        self.command = command
        self.listener = listener if listener is not None and ranks.is_main() else Listener()
        self.started = time.monotonic()

    def start(self, output: Path, force: bool) -> Outcome:
        prepared, trainer = self._prepare()
        run = create_run(output, force=force)
        with held(run):
            # run.json first: it makes the directory a run, which --force may replace
            run.write_run(describe(self.command, prepared) | {"status": "running"})
            run.write_config(prepared.config.to_mapping())
            return self._carry_out(run, prepared, trainer, None)

    def go_on(self, run: RunDirectory, found: Recovery) -> Outcome:
        for note in found.notes:
            self.listener.notice(note)
        prepared, trainer = self._prepare()
        info, options = run.read_run(), prepared.config.to_mapping()
        with together():
            check_same_data(run, prepared)
            if ranks.is_main():
                discard_after(run.checkpoints, found.step)
        run.write_config(options)
        resumed = [*info.get("resumed", []), {"at": now(), "step": found.step, "notes": found.notes}]
        # described anew: an entry that was damaged is as it was again
        names = ("lorate", "started", "seconds", "versions", "result")
        kept: dict[str, Any] = {name: info[name] for name in names if name in info}
        changes = {"status": "running", "resumed": resumed, "error": None}
        run.write_run({**describe(self.command, prepared), **kept, **changes})
        return self._carry_out(run, prepared, trainer, found.checkpoint)

    def _prepare(self) -> tuple[Prepared, Any]:
        """Everything that may refuse the options comes before anything is written."""
        require_extra("report")  # the report is drawn last, after hours of work
        with told(self.listener.progress):
            prepared, trainer = assemble(self.config, phase=self.listener.phase)
        _announce(self.listener, make_plan(prepared), prepared)
        return prepared, trainer

    def _carry_out(self, run: RunDirectory, prepared: Prepared, trainer: Any, checkpoint: Checkpoint | None) -> Outcome:
        step = 0 if checkpoint is None else checkpoint.step
        config = prepared.config
        move(trainer, run.checkpoints)
        if config.init in CHANGES_BASE and step == 0 and ranks.is_main():
            prepared.model.save_pretrained(run.inside(INITIAL), save_embedding_layers=False)
        try:
            with ExitStack() as stack:
                full = is_full_batch(config, prepared.examples)
                monitor = stack.enter_context(
                    Monitor(run.path, full_batch=full, on_alarm=config.on_alarm, resume_at=step)
                )
                writer = None
                if ranks.is_main():
                    writer = stack.enter_context(JsonlWriter(run.evaluations))
                    # the evaluation after the last step is made again
                    writer.truncate_after(min(step, config.step_count - 1))
                command = config.on_alarm_run if ranks.is_main() else None
                alarms = Alarms(command, run.path, self.listener)
                callback = ListeningCallback(monitor, self.listener, config.step_count, alarms)
                attach(trainer, config.rule, callback=callback, lr=config.lr, smoothness=config.smoothness)
                evaluations = Evaluations(prepared, trainer, writer, self.listener, alarms)
                trainer.add_callback(evaluations)
                trainer.add_callback(Sealer())
                before = untrained(run, prepared, evaluations, self.listener, step == 0)
                past = ranks.everyones(read_jsonl(run.evaluations).records if ranks.is_main() else None)[0]
                evaluations.selection = Selection(
                    run.inside("best"), run.checkpoints, prepared.model, before.scores.losses, past, config.keep
                )
                if (missing := evaluations.selection.missing) is not None:
                    self.listener.notice(f"The best adapter so far is gone from {missing}; a later one is kept.")
                self.listener.phase("Training")
                with Interruption() as interruption:
                    trainer.add_callback(interruption)
                    self._train(trainer, prepared, checkpoint)
                ending: Status = (
                    "interrupted" if interruption.requested else "stopped" if monitor.should_stop else "finished"
                )
                return end(
                    run,
                    prepared,
                    evaluations,
                    before,
                    status=ending,
                    step=trainer.state.global_step,
                    started=self.started,
                    listener=self.listener,
                )
        except BaseException as error:
            status_word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            # neither a full disk nor a run.json that is gone may hide the error itself
            with suppress(OSError, LorateError):
                run.write_run({**run.read_run(), "status": status_word, "error": reason(error), "finished": now()})
            raise

    def _train(self, trainer: Any, prepared: Prepared, checkpoint: Checkpoint | None) -> None:
        # dropout of its own in each process
        require("transformers", extra="hf").set_seed(prepared.config.seed + ranks.rank())
        if checkpoint is None or checkpoint.step < prepared.config.step_count:
            train_from(trainer, checkpoint)
            return
        # all steps are done, the end was missing; the Trainer would take one step more
        peft = require("peft", extra="hf")
        peft.set_peft_model_state_dict(prepared.model, peft.load_peft_weights(str(checkpoint.path), prepared.device))
        trainer.state.global_step = checkpoint.step


def _announce(listener: Listener, plan: Plan, prepared: Prepared) -> None:
    listener.plan(plan)
    if prepared.data.left_out:
        listener.notice(
            f"Records of {prepared.data.name} that are also in the evaluation data are left out of training: "
            f"{prepared.data.left_out}."
        )
    for note in prepared.notes:
        listener.notice(note)
