"""Signal and drift in layers.jsonl: the windows, their cost, and what a resumed run says."""

from pathlib import Path
from typing import Any

import pytest
import torch

import lorate
from lorate.adapters import find_pairs
from lorate.jsonl import read_jsonl
from lorate.monitor import Monitor, window
from lorate.optim import measure
from peft_models import linear_model, mixed_model

X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def step(model: Any, optimizer: Any, inputs: torch.Tensor = X) -> None:
    optimizer.zero_grad()
    loss = model(inputs).square().mean()
    loss.backward()
    optimizer.step(loss=loss)


def layers(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path / "layers.jsonl").records[1:]


def test_a_window_reaches_from_one_record_to_the_next(tmp_path: Path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "constant", lr=0.3)
    kept = {}
    with Monitor(tmp_path) as monitor:
        for number in range(1, 24):
            step(model, optimizer)
            monitor.update(optimizer)
            kept[number] = [(p.A.detach().clone(), p.B.detach().clone(), p.scaling) for p in find_pairs(model)]
    records = layers(tmp_path)
    assert [(r["step"], r.get("window_start")) for r in records] == [(1, None), (10, 1), (20, 10), (23, None)]
    assert "signal" not in records[0] and "signal" not in records[3]  # nothing before; not a whole window
    for record in records[1:3]:
        for layer, (start, end) in enumerate(zip(kept[record["window_start"]], kept[record["step"]], strict=True)):
            (A0, B0, s), (A, B, _) = start, end
            signal, drift = s * ((B - B0) @ A0 + B0 @ (A - A0)), s * (B - B0) @ (A - A0)
            assert record["signal"][layer] == pytest.approx(float(signal.norm()))
            assert record["drift"][layer] == pytest.approx(float(drift.norm()))
            squares = torch.linalg.svdvals(B @ A).square()
            assert record["effective_rank"][layer] == pytest.approx(float(squares.sum() ** 2 / squares.square().sum()))
            assert record["rank"][layer] == len(A)


def test_layers_of_every_kind_and_a_head_beside_them(tmp_path: Path) -> None:
    model = mixed_model(modules_to_save=["head"])
    optimizer = lorate.create_optimizer(model, "constant", lr=0.1)
    tokens = torch.arange(11).repeat(8)[:80].reshape(5, 16)
    with Monitor(tmp_path) as monitor:
        for _ in range(10):
            step(model, optimizer, tokens)
            monitor.update(optimizer)
    record = layers(tmp_path)[-1]
    assert len(record["signal"]) == 3 and all(value > 0 for value in record["signal"] + record["drift"])
    shares = zip(record["effective_rank"], record["rank"], strict=True)
    assert all(used * (1 + 1e-6) >= 1 and used <= rank * (1 + 1e-6) for used, rank in shares)


def test_one_transfer_a_window_and_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []

    def to_host(pieces: Any, device: torch.device) -> Any:
        transfers.append(len(pieces))
        return measure.to_host(pieces, device)

    monkeypatch.setattr(window, "to_host", to_host)
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized")
    with Monitor(tmp_path) as monitor:
        for _ in range(30):
            step(model, optimizer)
            monitor.update(optimizer)
        assert transfers == [3, 3, 3]
        kept = monitor._layers._window
        assert kept.start == 30
        held = [*kept._A, *kept._B]
        assert sum(x.numel() for x in held) == sum(p.A.numel() + p.B.numel() for p in find_pairs(model))


def test_a_monitor_without_a_file_keeps_no_copy() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized")
    monitor = Monitor()
    for _ in range(10):
        step(model, optimizer)
        monitor.update(optimizer)
    assert monitor._layers is None


def test_a_resumed_run_says_where_its_first_window_began(tmp_path: Path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "constant", lr=0.3)
    with Monitor(tmp_path) as monitor:
        for _ in range(25):
            step(model, optimizer)
            monitor.update(optimizer)
    with Monitor(tmp_path, resume_at=25) as resumed:
        for _ in range(15):
            step(model, optimizer)
            resumed.update(optimizer)
    starts = [(r["step"], r.get("window_start")) for r in layers(tmp_path)]
    assert starts == [(1, None), (10, 1), (20, 10), (25, None), (30, 26), (40, 30)]
