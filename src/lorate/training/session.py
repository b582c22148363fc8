"""A fine-tuning run from options to a finished run directory."""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from lorate.errors import LorateError
from lorate.extras import require
from lorate.integrations.transformers import LorateCallback
from lorate.jsonl import JsonlWriter
from lorate.monitor import Alarm, Monitor
from lorate.rates import RATES
from lorate.report import write_report
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.facts import now, versions
from lorate.training.checkpoints import Checkpoint, last_checkpoint
from lorate.training.config import TrainConfig
from lorate.training.evaluation import Change, Evaluator, paired_change
from lorate.training.interruption import Interruption
from lorate.training.outputs import save_adapter, write_usage
from lorate.training.plan import Plan, make_plan
from lorate.training.preparation import Prepared, prepare
from lorate.training.samples import answers, sample_prompts
from lorate.training.trainers import build_trainer

Status = Literal["finished", "stopped", "interrupted"]
PACKAGES = ("torch", "numpy", "transformers", "peft", "accelerate", "trl", "datasets")


class Listener:
    """Gets told what a run does; override what you want to show."""

    def phase(self, text: str) -> None:
        """Something that takes a while begins."""

    def plan(self, plan: Plan) -> None:
        """Data and model are loaded."""

    def step(self, record: Mapping[str, Any], total: int) -> None:
        """A step was taken (or skipped)."""

    def alarm(self, alarm: Alarm) -> None:
        """The monitor raised an alarm."""

    def evaluation(self, step: int, loss: float, standard_error: float) -> None:
        """The held-out data was evaluated."""


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


class _ListeningCallback(LorateCallback):
    """Passes steps and alarms on to a listener."""

    def __init__(self, monitor: Monitor, listener: Listener, total: int) -> None:
        super().__init__(monitor)
        self._listener = listener
        self._total = total

    def on_step_end(self, *args: Any, **options: Any) -> None:
        super().on_step_end(*args, **options)
        assert self.monitor.record is not None
        self._listener.step(self.monitor.record, self._total)

    def on_alarm(self, alarm: Alarm) -> None:
        self._listener.alarm(alarm)


def dry_run(config: TrainConfig, listener: Listener | None = None) -> Plan:
    """Load data and model, count, and write nothing.

    Raises:
        LorateError: whatever would stop the run itself.
    """
    listener = listener or Listener()
    listener.phase("Loading data and model")
    plan = make_plan(config, prepare(config))
    listener.plan(plan)
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

    Args:
        config: the options.
        output: the run directory to make.
        force: replace a run that stands there.
        command: how to repeat the run, for the report.
        listener: is told what happens.

    Raises:
        LorateError: the place is taken, or data, model or options do not do.
    """
    RunDirectory.check_free(output, force=force)
    return _Session(config, command, listener or Listener()).start(output, force)


def resume(output: str | Path, *, steps: int | None = None, listener: Listener | None = None) -> Outcome:
    """Go on with an interrupted run where its last complete checkpoint stands.

    Args:
        output: the run directory.
        steps: train to this many steps instead of the run's own number.
        listener: is told what happens.

    Raises:
        LorateError: no such run, or it has all its steps.
    """
    run = RunDirectory.open(output)
    options = run.read_config() | ({} if steps is None else {"steps": steps})
    config = TrainConfig.from_mapping(options, source=str(run.config))
    checkpoint = last_checkpoint(run.checkpoints)
    if run.read_run().get("status") == "finished" and (checkpoint is None or checkpoint.step >= config.steps):
        raise LorateError(f"{run.path} has finished its {config.steps} steps; give --steps to train on.")
    return _Session(config, run.read_run().get("command", ""), listener or Listener()).go_on(run, checkpoint)


class _Session:
    """One process' work on a run."""

    def __init__(self, config: TrainConfig, command: str, listener: Listener) -> None:
        self.config = config
        self.command = command
        self.listener = listener
        self.started = time.monotonic()

    def start(self, output: str | Path, force: bool) -> Outcome:
        prepared = self._prepare()
        run = RunDirectory.create(output, force=force)
        with run.in_use():
            run.write_config(self.config.to_mapping())
            run.write_run(self._describe(prepared) | {"status": "running"})
            return self._carry_out(run, prepared, None)

    def go_on(self, run: RunDirectory, checkpoint: Checkpoint | None) -> Outcome:
        with run.in_use():
            prepared = self._prepare()
            run.write_config(self.config.to_mapping())
            run.write_run({**run.read_run(), "status": "running", "finished": None})
            return self._carry_out(run, prepared, checkpoint)

    def _prepare(self) -> Prepared:
        self.listener.phase("Loading data and model")
        prepared = prepare(self.config)
        self.listener.plan(make_plan(self.config, prepared))
        return prepared

    def _carry_out(self, run: RunDirectory, prepared: Prepared, checkpoint: Checkpoint | None) -> Outcome:
        step = 0 if checkpoint is None else checkpoint.step
        config = self.config
        try:
            with ExitStack() as stack:
                full = _is_full_batch(config, len(prepared.data.train))
                monitor = stack.enter_context(
                    Monitor(run.path, full_batch=full, on_alarm=config.on_alarm, resume_at=step)
                )
                evaluations = stack.enter_context(JsonlWriter(run.evaluations))
                evaluations.truncate_after(step if checkpoint else -1)
                callback = _ListeningCallback(monitor, self.listener, config.steps)
                trainer = build_trainer(config, prepared, run, callback)
                evaluator = Evaluator(trainer, evaluations, config.evaluation_interval, self.listener.evaluation)
                trainer.add_callback(evaluator)
                before, samples = self._before(run, prepared, evaluator)
                self.listener.phase("Training")
                with Interruption() as interruption:
                    trainer.add_callback(interruption)
                    require("transformers", extra="hf").set_seed(config.seed)
                    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
                    if interruption.requested:
                        return self._finish(run, prepared, trainer, "interrupted", None, samples)
                status: Status = "stopped" if monitor.should_stop else "finished"
                self.listener.phase("Evaluating and sampling")
                after = evaluator.evaluate(trainer.state.global_step)
                replies = answers(prepared, [sample["prompt"] for sample in samples])
                samples = [sample | {"after": reply} for sample, reply in zip(samples, replies, strict=True)]
                _write_json(run.samples, samples)
                change = paired_change(torch.tensor(before, dtype=torch.float64), after)
                return self._finish(run, prepared, trainer, status, change, samples)
        except BaseException as error:
            status_word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            run.write_run({**run.read_run(), "status": status_word, "error": str(error), "finished": now()})
            raise

    def _before(
        self, run: RunDirectory, prepared: Prepared, evaluator: Evaluator
    ) -> tuple[list[float], list[dict[str, str]]]:
        """Losses and answers of the untrained adapter; a resumed run has them on file."""
        file = run.inside("before.json")
        if file.exists():
            saved = json.loads(file.read_text(encoding="utf-8"))
            return saved["losses"], saved["samples"]
        self.listener.phase("Evaluating and sampling")
        losses = evaluator.evaluate(0).tolist()
        prompts = sample_prompts(prepared, self.config.samples, self.config.max_length)
        replies = answers(prepared, prompts)
        samples = [{"prompt": p, "before": reply, "after": ""} for p, reply in zip(prompts, replies, strict=True)]
        _write_json(file, {"losses": losses, "samples": samples})
        return losses, samples

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
        save_adapter(run, self.config, prepared, change)
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
        return Outcome(status, trainer.state.global_step, change, samples, run, seconds)

    def _describe(self, prepared: Prepared) -> dict[str, Any]:
        plan, rule = make_plan(self.config, prepared), RATES[self.config.rate]
        return {
            "lorate": version("lorate"),
            "command": self.command,
            "started": now(),
            "finished": None,
            "seconds": 0.0,
            "versions": versions(PACKAGES),
            "device": prepared.device,
            "config": self.config.to_mapping(),
            "model": {
                "name": prepared.base.name,
                "kind": self.config.task,
                "parameters": plan.parameters,
                "trainable": plan.trainable,
            },
            "data": {"name": prepared.data.name, "train": plan.train_examples, "eval": plan.eval_examples},
            "rate": {"name": rule.name, "lr": self.config.resolved_lr, "formula": rule.formula},
            "plan": asdict(plan),
            # which adapters are evaluated and saved
            "adapters": "averaged over the run" if rule.averages else "of the last step",
            "result": None,
        }


def _is_full_batch(config: TrainConfig, records: int) -> bool:
    """Whether every step sees every record once, so that the run can be certified."""
    return config.batch_size * config.accumulate == records or (config.batch_size >= records and config.accumulate == 1)


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
