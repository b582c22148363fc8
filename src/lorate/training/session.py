"""A fine-tuning run from options to a finished run directory."""

import json
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lorate import ranks
from lorate.errors import LorateError
from lorate.extras import require, require_extra
from lorate.jsonl import JsonlWriter
from lorate.monitor import Monitor
from lorate.report import write_report
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.facts import now
from lorate.runs.storage import naming_storage_errors
from lorate.training.checkpoints import Checkpoint, Sealer, discard_after, train_from
from lorate.training.config import TrainConfig
from lorate.training.description import check_same_data, describe
from lorate.training.evaluation import Change, Evaluator, paired_change
from lorate.training.interruption import Interruption
from lorate.training.listener import Listener, ListeningCallback
from lorate.training.outputs import save_adapter, write_usage
from lorate.training.plan import Plan, is_full_batch, make_plan
from lorate.training.preparation import Prepared, prepare
from lorate.training.processes import (
    check_processes,
    create_run,
    held,
    main_first,
    meet,
    noticing_lost_processes,
    open_run,
    reason,
    together,
)
from lorate.training.recovery import Recovery, recover
from lorate.training.samples import answers, sample_prompts
from lorate.training.trainers import build_trainer
from lorate.training.untrained import read_untrained, write_untrained

Status = Literal["finished", "stopped", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: ``"finished"``, ``"stopped"`` by an alarm, or ``"interrupted"`` by Ctrl-C.
        steps: steps done in all.
        change: held-out loss before and after; None if interrupted.
        samples: prompts with what the model said before and after.
        run: the run directory.
        seconds: wall time of this session.
    """

    status: Status
    steps: int
    change: Change | None
    samples: list[dict[str, str]]
    run: RunDirectory
    seconds: float


def dry_run(config: TrainConfig, listener: Listener | None = None, *, processes: int = 1) -> Plan:
    """Load data and model, count, and write nothing.

    Args:
        config: the options.
        listener: is told what happens.
        processes: how many would train together.

    Raises:
        LorateError: whatever would stop the run itself.
    """
    listener = listener or Listener()
    listener.phase("Loading data and model")
    prepared = prepare(config)
    plan = make_plan(config, prepared, processes)
    _announce(listener, plan, prepared)
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
        force: replace a run that stands there.
        command: how to repeat the run, for the report.
        listener: is told what happens.

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
    """Go on with an interrupted run from its last good checkpoint; the listener is told of damage that was found.

    Args:
        output: the run directory.
        steps: train to this many steps instead of the run's own number.
        listener: is told what happens.

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
                if found.step > found.config.steps:
                    raise LorateError(
                        f"{run.path} has done {found.step} steps already; give --steps {found.step} or more, or leave "
                        "it out."
                    )
                if info.get("status") == "finished" and run.report.exists() and found.step >= found.config.steps:
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
        prepared = self._prepare()
        run = create_run(output, force=force)
        with held(run):
            # run.json first: it makes the directory a run, which --force may replace
            run.write_run(describe(self.config, self.command, prepared) | {"status": "running"})
            run.write_config(self.config.to_mapping())
            return self._carry_out(run, prepared, None)

    def go_on(self, run: RunDirectory, found: Recovery) -> Outcome:
        for note in found.notes:
            self.listener.notice(note)
        prepared, info = self._prepare(), run.read_run()
        with together():
            check_same_data(run, prepared)
            if ranks.is_main():
                discard_after(run.checkpoints, found.step)
        run.write_config(self.config.to_mapping())
        resumed = [*info.get("resumed", []), {"at": now(), "step": found.step, "notes": found.notes}]
        # described anew: an entry that was damaged is as it was again
        names = ("lorate", "started", "seconds", "versions", "result")
        kept: dict[str, Any] = {name: info[name] for name in names if name in info}
        changes = {"status": "running", "resumed": resumed, "error": None}
        run.write_run({**describe(self.config, self.command, prepared), **kept, **changes})
        return self._carry_out(run, prepared, found.checkpoint)

    def _prepare(self) -> Prepared:
        require_extra("report")  # the report is drawn last, after hours of work
        self.listener.phase("Loading data and model")
        prepared = main_first(lambda: prepare(self.config))
        _announce(self.listener, make_plan(self.config, prepared), prepared)
        return prepared

    def _carry_out(self, run: RunDirectory, prepared: Prepared, checkpoint: Checkpoint | None) -> Outcome:
        step = 0 if checkpoint is None else checkpoint.step
        config = self.config
        try:
            with ExitStack() as stack:
                full = is_full_batch(config, len(prepared.data.train))
                monitor = stack.enter_context(
                    Monitor(run.path, full_batch=full, on_alarm=config.on_alarm, resume_at=step)
                )
                evaluations = None
                if ranks.is_main():
                    evaluations = stack.enter_context(JsonlWriter(run.evaluations))
                    # the evaluation after the last step is made again
                    evaluations.truncate_after(min(step, config.steps - 1))
                callback = ListeningCallback(monitor, self.listener, config.steps)
                trainer = build_trainer(config, prepared, run, callback)
                evaluator = Evaluator(trainer, evaluations, config.evaluation_interval, self.listener.evaluation)
                trainer.add_callback(evaluator)
                trainer.add_callback(Sealer())
                before, samples = self._before(run, prepared, evaluator, evaluations if step == 0 else None)
                self.listener.phase("Training")
                with Interruption() as interruption:
                    trainer.add_callback(interruption)
                    self._train(trainer, prepared, checkpoint)
                    if interruption.requested:
                        return self._finish(run, prepared, trainer, "interrupted", None, samples)
                status: Status = "stopped" if monitor.should_stop else "finished"
                self.listener.phase("Evaluating and sampling")
                after = evaluator.evaluate(trainer.state.global_step)
                if ranks.is_main():
                    replies = answers(prepared, [sample["prompt"] for sample in samples])
                    samples = [sample | {"after": reply} for sample, reply in zip(samples, replies, strict=True)]
                    _write_json(run.samples, samples)
                change = paired_change(torch.tensor(before, dtype=torch.float64), after)
                return self._finish(run, prepared, trainer, status, change, samples)
        except BaseException as error:
            status_word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            # neither a full disk nor a run.json that is gone may hide the error itself
            with suppress(OSError, LorateError):
                run.write_run({**run.read_run(), "status": status_word, "error": reason(error), "finished": now()})
            raise

    def _train(self, trainer: Any, prepared: Prepared, checkpoint: Checkpoint | None) -> None:
        # dropout of its own in each process
        require("transformers", extra="hf").set_seed(self.config.seed + ranks.rank())
        if checkpoint is None or checkpoint.step < self.config.steps:
            train_from(trainer, checkpoint)
            return
        # all steps are done, the end was missing; the Trainer would take one step more
        peft = require("peft", extra="hf")
        peft.set_peft_model_state_dict(prepared.model, peft.load_peft_weights(str(checkpoint.path), prepared.device))
        trainer.state.global_step = checkpoint.step

    def _before(
        self, run: RunDirectory, prepared: Prepared, evaluator: Evaluator, evaluations: JsonlWriter | None
    ) -> tuple[list[float], list[dict[str, str]]]:
        """Losses and answers of the untrained adapter, which stands in the model; a resumed run has them on file.

        They are recorded if ``evaluations`` is given and they are not on file.
        """
        file = run.inside("before.json")
        examples = min(len(prepared.data.eval), self.config.eval_examples)
        losses, samples = ranks.everyones(self._read_before(file, examples))[0]
        if losses:
            return losses, samples
        self.listener.phase("Evaluating and sampling")
        if evaluations is None:
            losses = evaluator.losses().tolist()
        else:
            evaluations.truncate_after(-1)
            losses = evaluator.evaluate(0).tolist()
        if not ranks.is_main():
            return losses, []
        prompts = sample_prompts(prepared, self.config.samples, self.config.max_length)
        replies = answers(prepared, prompts)
        samples = [{"prompt": p, "before": reply, "after": ""} for p, reply in zip(prompts, replies, strict=True)]
        write_untrained(file, losses, samples)
        return losses, samples

    def _read_before(self, file: Path, examples: int) -> tuple[list[float], list[dict[str, str]]]:
        """What is on file; nothing if it is missing or damaged."""
        try:
            return read_untrained(file, examples)
        except FileNotFoundError:
            return [], []
        except LorateError as error:
            self.listener.notice(f"{error} It is made again.")
            return [], []

    def _finish(
        self,
        run: RunDirectory,
        prepared: Prepared,
        trainer: Any,
        status: Status,
        change: Change | None,
        samples: list[dict[str, str]],
    ) -> Outcome:
        self.listener.phase("Saving")
        seconds = time.monotonic() - self.started
        outcome = Outcome(status, trainer.state.global_step, change, samples, run, seconds)
        if not ranks.is_main():
            return outcome
        save_adapter(run, self.config, prepared, outcome.steps, change)
        write_usage(run, self.config, prepared)
        info = run.read_run()
        result = change and {
            "eval_before": change.before,
            "eval_after": change.after,
            "eval_change": change.relative,
            "eval_change_se": change.standard_error,
            "eval_examples": change.examples,
        }
        total = round(info.get("seconds", 0.0) + seconds, 1)
        run.write_run({**info, "status": status, "finished": now(), "seconds": total, "result": result})
        write_report([run.path], run.report)
        return outcome


def _announce(listener: Listener, plan: Plan, prepared: Prepared) -> None:
    listener.plan(plan)
    if prepared.data.left_out:
        listener.notice(
            f"Records of {prepared.data.name} that also stand in the evaluation data are left out of training: "
            f"{prepared.data.left_out}."
        )


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
