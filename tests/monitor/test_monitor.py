"""Records on disk and alarms, from real and from made-up runs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.errors import LorateError
from lorate.jsonl import read_jsonl
from lorate.monitor import History, Monitor
from lorate.monitor.checks import diverging, growing, skipped, stalled, stuck_at_origin
from peft_models import linear_model

X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def train(monitor: Monitor, steps: int, rule: str = "adaptive-loss", poison: int | None = None, **options: Any) -> Any:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, rule, **options)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model(X).square().mean() * (math.nan if step == poison else 1.0)
        loss.backward()
        optimizer.step(loss=loss)
        monitor.update(optimizer, samples=12, tokens=3)
    return optimizer


def test_one_record_a_step_as_it_happens(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "run")
    optimizer = train(monitor, 12)
    records = read_jsonl(tmp_path / "run" / "metrics.jsonl").records  # before close: each line was flushed
    assert [record["step"] for record in records] == list(range(1, 13))
    last, m = records[-1], optimizer.last.measurement
    assert last["samples"] == 144 and last["tokens"] == 36
    assert last["loss"] == m.loss and last["eta"] == optimizer.last.eta
    assert last["sum_eta"] == pytest.approx(sum(record["eta"] for record in records))
    assert last["stacked_norm"] ** 2 == pytest.approx(last["a_norm"] ** 2 + last["b_norm"] ** 2)
    assert last["grad_norm"] == m.gradient_norm and last["weight_grad_norm"] is None
    monitor.close()
    header, *layers = read_jsonl(tmp_path / "run" / "layers.jsonl").records
    assert header == {"names": ["base_model.model.0", "base_model.model.2"], "scaling": [2.0, 2.0]}
    assert [layer["step"] for layer in layers] == [1, 10, 12]
    assert sum(a**2 for a in layers[-1]["a_norm"]) == pytest.approx(last["a_norm"] ** 2)


def test_watch_needs_no_call_in_the_loop(tmp_path: Path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized")
    with Monitor(tmp_path) as monitor:
        handle = monitor.watch(optimizer)
        for _ in range(3):
            model(X).square().mean().backward()
            optimizer.step()
        handle.remove()
        optimizer.step()
    assert len(read_jsonl(tmp_path / "metrics.jsonl").records) == 3


def test_records_are_never_overwritten(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        train(monitor, 2)
    with pytest.raises(LorateError, match="holds the records of a run"):
        Monitor(tmp_path)


def test_a_file_is_no_directory_for_records(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("notes")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(LorateError, match="cannot hold records: it, or a folder above it, is a file"):
            Monitor(place)
    assert (tmp_path / "file").read_text() == "notes"


def test_resuming_keeps_each_step_once(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        train(monitor, 7)
    with Monitor(tmp_path, resume_at=5) as resumed:
        pass
    assert resumed.samples == 60 and resumed.record["step"] == 5
    assert [r["step"] for r in read_jsonl(tmp_path / "metrics.jsonl").records] == [1, 2, 3, 4, 5]


def test_a_skipped_step_is_told_and_written_as_strict_json(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        train(monitor, 4, poison=2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]
    assert records[1]["loss"] is None and records[1]["skipped"] == "the loss is nan"
    assert [len(record["alarms"]) for record in records] == [0, 1, 0, 0]
    assert records[1]["alarms"][0]["message"] == "Step 2 was skipped: the loss is nan."


def test_alarm_can_stop_or_halve() -> None:
    stopped, halved = Monitor(on_alarm="stop"), Monitor(on_alarm="halve")
    train(stopped, 3, poison=2)
    assert stopped.should_stop
    optimizer = train(halved, 3, poison=2)
    assert not halved.should_stop and optimizer.last.lr == 0.5
    with pytest.raises(LorateError, match="warn, stop, halve, got 'shout'"):
        Monitor(on_alarm="shout")  # type: ignore[arg-type]


def test_skipped_steps_in_a_row_are_one_alarm_but_each_halves_the_rate(tmp_path: Path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "constant", lr=1.0)
    with Monitor(on_alarm="halve") as monitor:
        raised = []
        for value in (1.0, math.nan, math.nan, math.nan, 1.0, math.nan):
            optimizer.zero_grad()
            loss = model(X).square().mean() * value
            loss.backward()
            optimizer.step(loss=loss)
            raised.append([alarm.kind for alarm in monitor.update(optimizer)])
    assert raised == [[], ["non-finite"], [], [], [], ["non-finite"]]
    assert optimizer.param_groups[0]["damping"] == 0.5**4


def test_update_before_any_step() -> None:
    with pytest.raises(LorateError, match="comes after"):
        Monitor().update(lorate.create_optimizer(linear_model()))


def test_a_too_large_constant_rate_is_seen_to_diverge() -> None:
    """The loss in W is a square, so in (A, B) it is quartic and a large rate leaves for good."""
    monitor = Monitor()
    alarms = []
    model = linear_model(layers=1)
    model.base_model.model[1] = nn.Identity()
    optimizer = lorate.create_optimizer(model, "constant", lr=3.0)
    for _ in range(10):
        optimizer.zero_grad()
        loss = model(X).square().sum()
        loss.backward()
        optimizer.step(loss=loss)
        alarms += monitor.update(optimizer)
    assert alarms[0].kind == "diverging"


def test_too_small_a_rate_is_seen_to_stall() -> None:
    monitor = Monitor()
    train(monitor, 60, "constant", lr=1e-8)
    assert [kind for kind in monitor._raised] == ["stalled"]


def test_a_good_run_raises_nothing() -> None:
    monitor = Monitor()
    train(monitor, 250)
    assert not monitor._raised


def record(step: int, **changes: Any) -> dict[str, Any]:
    values = {
        "step": step, "loss": 1.0, "eta": 0.1, "stacked_norm": 2.0, "a_norm": 1.5, "b_norm": 1.3,
        "scaled_grad_norm": 1.0, "sum_eta": 0.1 * step, "skipped": None,
    }  # fmt: skip
    return {**values, **changes}


def history(losses: list[float], **columns: list[float] | float) -> History:
    result = History()
    for i, loss in enumerate(losses):
        changes = {name: value[i] if isinstance(value, list) else value for name, value in columns.items()}
        result.add(record(i + 1, loss=loss, **changes))
    return result


def noisy(level: np.ndarray | float, noise: float, steps: int, seed: int = 0) -> list[float]:
    return list(level + noise * np.random.default_rng(seed).normal(size=steps))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_noise_alone_is_no_divergence(noise: float, seed: int) -> None:
    falling = 1.5 + 1.5 * np.exp(-np.arange(300) / 40)
    losses = noisy(falling, noise, 300, seed)
    seen = History()
    for i, loss in enumerate(losses):
        seen.add(record(i + 1, loss=loss))
        assert diverging(seen) is None, i


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_beyond_the_noise_is_divergence(seed: int) -> None:
    level = np.concatenate((np.linspace(2, 1, 60), np.linspace(1, 2, 40)))
    alarm = diverging(history(noisy(level, 0.1, 100, seed)))
    assert alarm is not None and "rose to" in alarm.message


@pytest.mark.parametrize(("slope", "advice"), [(None, "Lower lr"), (0.3, "larger batches")])
def test_auto_is_not_advised_to_lower_lr(slope: float | None, advice: str) -> None:
    for losses, norms in ([1.0, 1.1, 4.0, 4.5], [1.0] * 4), ([2.0, 2.1], [1.0, 40.0]):
        alarm = diverging(history(losses, stacked_norm=norms, average_slope=[slope] * len(losses)))
        assert alarm is not None and advice in alarm.remedy


def test_adapters_that_shoot_up_are_divergence_though_the_loss_is_bounded() -> None:
    alarm = diverging(history([2.0, 2.1], stacked_norm=[1.0, 40.0]))
    assert alarm is not None and "norm from 1 to 40" in alarm.message
    assert diverging(history([2.0, 1.5], stacked_norm=[1.0, 40.0])) is None  # away from the origin, and it helps
    assert diverging(history([2.0, 2.1], stacked_norm=[1.0, 3.0])) is None


def test_stuck_at_the_origin() -> None:
    tiny = {"a_norm": 1e-3, "b_norm": 1e-6, "stacked_norm": 1e-3}
    assert stuck_at_origin(history([2.0] * 30, **tiny)) is not None
    assert stuck_at_origin(history([2.0] * 10, **tiny)) is None  # too early to say
    assert stuck_at_origin(history(list(np.linspace(2, 1.9, 30)), **tiny)) is None  # it moves
    assert stuck_at_origin(history([2.0] * 30)) is None  # large adapters


def test_growth_without_end() -> None:
    steps = np.arange(1, 401)
    root = [float(x) for x in 0.5 * steps**0.4]
    assert growing(history([1.0] * 400, stacked_norm=root)) is not None
    settled = [float(x) for x in 5 - 4.5 * np.exp(-steps / 30)]
    assert growing(history([1.0] * 400, stacked_norm=settled)) is None
    assert growing(history([1.0] * 100, stacked_norm=root[:100])) is None  # too early to say


def test_a_flat_end_is_no_stall() -> None:
    small = [1.0] * 10 + [0.01] * 90
    assert stalled(history([1.0] * 100, eta=1e-9, scaled_grad_norm=small)) is None
    assert stalled(history([1.0] * 100, eta=1e-9)) is not None


def test_skipped_steps() -> None:
    assert skipped(record(3)) is None
    poisoned = skipped(record(3, skipped="the loss is nan", loss=math.nan))
    assert poisoned is not None and poisoned.kind == "non-finite"
    standing = skipped(record(3, skipped="the direction does not descend", grad_norm=1.0))
    assert standing is not None and standing.kind == "stalled"


def test_history_stays_bounded_and_spans_the_run() -> None:
    seen = History(recent=50, sparse=64)
    for step in range(1, 100_001):
        seen.add({"step": step})
    assert len(seen.recent) + len(seen._sparse) <= 115
    assert abs(seen.near_step(50_000)["step"] - 50_000) < 2_000
    assert seen.first == {"step": 1} and seen.count == 100_000


def test_layers_that_never_get_a_gradient_raise_one_alarm() -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x) + 0 * self.unused(x)

    model = peft.get_peft_model(Half(), peft.LoraConfig(r=2, target_modules=["used", "unused"]))
    optimizer, monitor = lorate.create_optimizer(model, rule="normalized", lr=0.1), lorate.Monitor()
    found = []
    for step in range(40):
        loss = model(torch.randn(8, 4, generator=torch.manual_seed(step))).square().mean()
        loss.backward()
        optimizer.step(loss=loss)
        optimizer.zero_grad()
        found += [(step, alarm) for alarm in monitor.update(optimizer) if alarm.kind == "no-gradient"]
    ((step, alarm),) = found
    assert step == 19 and "1 of 2 layers had no gradient in 20 steps" in alarm.message and "unused" in alarm.message
