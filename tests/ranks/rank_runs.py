"""What two processes of a test do: train with half of the batch each, and leave what they saw in files."""

import copy
import functools
import io
import math
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import lorate
from lorate.adapters import plain_pairs
from lorate.jsonl import read_jsonl
from lorate.optim.layout import slots, values
from optim.every_rule import own_options
from peft_models import Mixed, mixed_model

WORLD, STEPS, ROWS = 2, 20, 8
PATIENCE = 30.0
"""Seconds after which a message that is missing counts as a deadlock."""

ADAMW = functools.partial(torch.optim.AdamW, lr=0.01)
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant", {"lr": 0.1}),
    "theory": ("theory", {"smoothness": 9.0}),
    "adaptive, sketch": ("adaptive", {"gradient_norm": "sketch"}),
    "adaptive, exact": ("adaptive", {"gradient_norm": "exact"}),
    "adaptive-loss": ("adaptive-loss", {}),
    "normalized": ("normalized", {"lr": 0.1}),
    "sharp": ("sharp", {"smoothness": 9.0}),
    "one-factor": ("one-factor", {"smoothness": 9.0}),
    "majorizer": ("majorizer", {"smoothness": 9.0}),
    "majorizer, sketch": ("majorizer", {"smoothness": 9.0, "gradient_norm": "sketch"}),
    "majorizer along AdamW": ("majorizer", {"smoothness": 9.0, "direction": ADAMW}),
    # whole steps pass a place where rounding grows a hundredfold
    "backtracking": ("backtracking", {"lr": 0.5}),
    "backtracking along AdamW": ("backtracking", {"direction": ADAMW}),
    "auto, closure": ("auto", {}),
    "auto, replay": ("auto", {}),
    "auto, micro-batches": ("auto", {}),
    "auto, whole model": ("auto", {}),
}
RULES |= {name: (name, own_options(name)) for name in lorate.RULES if name not in {rule for rule, _ in RULES.values()}}
FAULTY_RULES = ("constant", "adaptive, sketch", "majorizer along AdamW", "backtracking", "auto, replay")
RESUMED_RULES = ("auto, closure", "majorizer along AdamW", "backtracking")


class Run:
    """A model, an optimizer, and the batch that this process sees.

    Args:
        rule: key of `RULES`.
        wrap: ``"ddp"``, ``"fsdp"``, ``"fsdp after"`` (sharded once the optimizer is there), or None for one process.
        dtype: of everything.
    """

    def __init__(self, rule: str, wrap: str | None, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = rule == "auto, whole model"
            model: Any = Mixed() if whole else mixed_model(torch.float32, modules_to_save=["head"])
        for pair in plain_pairs(model):
            nn.init.normal_(pair.A, std=0.3)
            nn.init.normal_(pair.B, std=0.3)
        model.to(dtype)  # the same numbers in every precision
        generator = torch.Generator().manual_seed(2)
        tokens = torch.randint(0, 11, (ROWS, 8), generator=generator)
        target = torch.randn(ROWS, 3, generator=generator).to(dtype)
        if wrap is not None:
            tokens, target = (x.chunk(WORLD)[dist.get_rank()] for x in (tokens, target))
        self.tokens, self.target, self.rule = tokens, target, rule
        name, options = RULES[rule]
        if wrap == "fsdp after":
            self.optimizer = lorate.create_optimizer(model, name, **options)
            model = sharded(model, self.optimizer)
        else:
            model = {"ddp": DistributedDataParallel, "fsdp": sharded, None: lambda alone: alone}[wrap](model)
            self.optimizer = lorate.create_optimizer(model, name, **options)
        self.model = model
        self.fault: str | None = None
        self.closure = self._closure  # one object: backtracking asks whether it is the same

    def loss(self, rows: slice = slice(None)) -> Tensor:
        """Of this process' rows; with a fault NaN, or the mean over no rows at all."""
        errors = (self.model(self.tokens[rows]) - self.target[rows]).square()
        loss = (errors[:0] if self.fault == "empty" else errors).mean()
        return loss * math.nan if self.fault == "nan" else loss

    def _closure(self) -> Tensor:
        loss = self.loss()
        if loss.requires_grad:
            self.optimizer.zero_grad()
            loss.backward()
        return loss

    def step(self) -> None:
        optimizer = self.optimizer
        if self.rule.startswith("backtracking") or self.rule == "auto, closure":
            optimizer.step(self.closure)
            return
        optimizer.zero_grad()
        if self.rule == "auto, micro-batches":
            halves = [slice(i, None, 2) for i in (0, 1)]
            for rows in halves:
                part = self.loss(rows) / 2
                part.backward()
                optimizer.record_loss(part)

            def again() -> Tensor:
                parts = [self.loss(rows) / 2 for rows in halves]
                return torch.stack(parts).sum().detach()

            optimizer.replay = again
            optimizer.step()
            return
        optimizer.replay = self.loss
        loss = self.loss()
        loss.backward()
        optimizer.step(loss=loss)

    def weights(self) -> Tensor:
        """All trained numbers, whole."""
        return torch.cat([x.double().flatten() for x in values(slots(self.optimizer.param_groups))])


def sharded(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    """The model under ``fully_shard``, and an optimizer that was there before with it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    mesh = init_device_mesh("cpu", (WORLD,))
    inner: Any = model if isinstance(model, Mixed) else model.base_model.model
    fully_shard(inner.linear, mesh=mesh)
    fully_shard(model, mesh=mesh)
    now = dict(model.named_parameters())
    for group in [] if optimizer is None else optimizer.param_groups:
        group["params"] = [now[names[id(parameter)]] for parameter in group["params"]]
    return model


def trajectory(run: Run, steps: int = STEPS) -> dict[str, Any]:
    """The trained numbers after each step, and what the steps were."""
    weights, taken = [], []
    for _ in range(steps):
        run.step()
        last = run.optimizer.last
        weights.append(run.weights())
        taken.append((last.eta, last.skipped, last.measurement.loss, last.smoothness, last.evaluations))
    return {"weights": torch.stack(weights), "steps": taken}


def trajectories(wraps: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> dict[Any, Any]:
    return {
        (wrap, dtype, rule): trajectory(Run(rule, wrap, dtype)) for wrap in wraps for dtype in dtypes for rule in RULES
    }


def after_a_fault(wrap: str, fault: str, rule: str) -> dict[str, Any]:
    """Two good steps, one in which rank 1 has a bad micro-batch, two good ones."""
    run, skipped, weights = Run(rule, wrap), [], []
    for number in range(5):
        run.fault = fault if number == 2 and dist.get_rank() == 1 else None
        run.closure = lambda: run._closure()  # another function: backtracking looks again
        run.step()
        skipped.append(run.optimizer.last.skipped)
        weights.append(run.weights())
    return {"skipped": skipped, "weights": torch.stack(weights)}


def all_faults(wraps: tuple[str, ...]) -> dict[Any, Any]:
    return {
        (wrap, fault, rule): after_a_fault(wrap, fault, rule)
        for wrap in wraps
        for fault in ("nan", "empty")
        for rule in FAULTY_RULES
    }


def silent_rank(wrap: str) -> float | None:
    """The loss of a step in which rank 1 told none."""
    run = Run("adaptive-loss", wrap)
    loss = run.loss()
    loss.backward()
    run.optimizer.step(loss=loss if dist.get_rank() == 0 else None)
    return run.optimizer.last.measurement.loss


def interrupted(rule: str) -> dict[str, Tensor]:
    """Sharded training that goes on from a saved optimizer, beside one that was never interrupted."""
    run = Run(rule, "fsdp")
    trajectory(run, 5)
    state = io.BytesIO()
    torch.save(run.optimizer.state_dict(), state)
    again = Run(rule, "fsdp")
    again.model.load_state_dict(run.model.state_dict())
    again.optimizer.load_state_dict(torch.load(io.BytesIO(state.getvalue()), weights_only=True))
    return {"whole": trajectory(run, 5)["weights"], "resumed": trajectory(again, 5)["weights"]}


def checkpointed(wrap: str) -> dict[str, Tensor]:
    """The same through torch's distributed checkpoints, which make optimizers rehearse a step."""
    from torch.distributed.checkpoint import state_dict as checkpoints

    run = Run("auto, closure", wrap)
    trajectory(run, 5)
    run.optimizer.use_average()
    averaged = run.weights()
    state = copy.deepcopy(checkpoints.get_optimizer_state_dict(run.model, run.optimizer))
    unmoved = torch.equal(averaged, run.weights()) and run.optimizer.param_groups[0]["steps"] == 5
    again = Run("auto, closure", wrap)
    again.model.load_state_dict(run.model.state_dict())
    checkpoints.set_optimizer_state_dict(again.model, again.optimizer, state)
    for one in (run, again):
        one.optimizer.use_last()
    return {
        "whole": trajectory(run, 5)["weights"],
        "resumed": trajectory(again, 5)["weights"],
        "unmoved": torch.tensor(unmoved),
    }


def in_a_trainer() -> dict[str, Any]:
    """Six steps of a Trainer on both ranks, resumed after three; then what was recorded."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "integrations"))
    from test_transformers import arguments, language_model, pad, texts
    from transformers import Trainer, TrainingArguments

    rank = dist.get_rank()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}

    def trainer(steps: int, place: str) -> Any:
        settings = arguments(
            Path(place), max_steps=steps, per_device_train_batch_size=2, gradient_accumulation_steps=2,
            save_strategy="steps", save_steps=3, ddp_find_unused_parameters=False,
        )  # fmt: skip
        own = Trainer(language_model(), TrainingArguments(**settings), train_dataset=texts(), data_collator=pad)
        return lorate.attach(own, monitor=f"{place}/records")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = trainer(6, "whole")
        whole.train()
        trainer(3, "parts").train()
        parts = trainer(6, "parts")
        parts.train(resume_from_checkpoint=str(Path("parts") / "checkpoint-3"))
    found: dict[str, Any] = {
        name: torch.cat([p.detach().flatten() for p in own.model.parameters() if p.requires_grad])
        for name, own in (("whole", whole), ("parts", parts))
    }
    dist.barrier()
    records = read_jsonl(Path("whole/records/metrics.jsonl")).records
    logged = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    return {**found, "records": records, "logged": logged, "processes": whole.args.world_size}


def losses_around_the_average() -> list[float]:
    """Last adapters, their average, last adapters again, without a backward pass in between."""
    run = Run("auto, closure", "fsdp")
    trajectory(run, 5)
    with torch.no_grad():
        losses = [float(run.loss())]
        with run.optimizer.averaged():
            losses.append(float(run.loss()))
        return [*losses, float(run.loss())]


def monitored() -> dict[str, Any]:
    """Three steps under a monitor, the second one with a bad micro-batch on rank 1."""
    run, alarms = Run("adaptive-loss", "ddp"), []
    with lorate.Monitor("records", on_alarm="halve") as monitor:
        for number in range(3):
            run.fault = "nan" if number == 1 and dist.get_rank() == 1 else None
            run.step()
            alarms.append([a.kind for a in monitor.update(run.optimizer, samples=dist.get_rank() + 1, tokens=10)])
    return {
        "alarms": alarms,
        "counts": (monitor.samples, monitor.tokens),
        "damping": run.optimizer.param_groups[0]["damping"],
        "records": read_jsonl(Path("records/metrics.jsonl")).records,
    }


def quick() -> dict[str, Any]:
    """What the default tests look at."""
    return {
        "trajectories": trajectories(("ddp",), (torch.float64,)),
        "faults": all_faults(("ddp",)),
        "silent": silent_rank("ddp"),
        "monitored": monitored(),
    }


def thorough() -> dict[str, Any]:
    """The rest: sharded, and in single precision."""
    double, single = torch.float64, torch.float32
    return {
        "trajectories": trajectories(("fsdp", "fsdp after"), (double,)) | trajectories(("ddp", "fsdp"), (single,)),
        "faults": all_faults(("fsdp",)),
        "silent": silent_rank("fsdp"),
        "interrupted": {rule: interrupted(rule) for rule in RESUMED_RULES},
        "average": losses_around_the_average(),
        "checkpointed": {wrap: checkpointed(wrap) for wrap in ("ddp", "fsdp")},
    }


def _work(rank: int, folder: str, job: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    patience = timedelta(seconds=PATIENCE)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD, timeout=patience)
    os.chdir(folder)
    torch.save(job(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def on_two_ranks(folder: Path, job: Callable[[], Any]) -> list[Any]:
    """What the job returns on each rank; a rank that fails, or waits too long, fails the test."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(_work, args=(str(folder), job), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]
