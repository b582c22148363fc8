"""A run of days: memory stays bounded, and the file can be read at every moment."""

import gc
import multiprocessing
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lorate
from lorate.jsonl import JsonlWriter, read_jsonl
from lorate.monitor import Monitor
from peft_models import linear_model


def an_optimizer() -> Any:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    loss = model(torch.ones(4, 6, dtype=torch.float64)).square().mean()
    loss.backward()
    optimizer.step(loss=loss)
    return optimizer


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    optimizer = an_optimizer()
    step, held = optimizer.last, []
    with Monitor(tmp_path) as monitor:
        tracemalloc.start()
        try:
            for number in range(1, 16_385):
                optimizer.last = replace(step, number=number, sum_eta=0.1 * number)
                monitor.update(optimizer, samples=1)
                if number in (4_096, 16_384):  # the sparse past is equally full at both
                    gc.collect()
                    held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert held[1] - held[0] < 4 * (16_384 - 4_096), held  # not one number per step


def _write(path: Path, count: int) -> None:
    with JsonlWriter(path) as writer:
        for step in range(1, count + 1):
            writer.write({"step": step, "text": "x" * (step % 3000)})


def test_a_file_that_is_written_to_can_be_read_at_every_moment(tmp_path: Path) -> None:
    path, count = tmp_path / "metrics.jsonl", 20_000
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(path, count))
    writer.start()
    seen = 0
    try:
        while seen < count and (writer.is_alive() or seen == 0):
            content = read_jsonl(path)
            steps = [record["step"] for record in content.records]
            assert steps == list(range(1, len(steps) + 1)) and len(steps) >= seen
            assert all("the last line is incomplete" in problem for problem in content.problems)
            seen = len(steps)
    finally:
        writer.join(60)
    assert writer.exitcode == 0 and len(read_jsonl(path).records) == count
