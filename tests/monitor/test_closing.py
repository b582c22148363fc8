"""Files are closed whatever happens."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import lorate
from lorate.jsonl import JsonlWriter
from lorate.monitor import Monitor
from lorate.report.load import load_run
from lorate.report.verdict import judge
from lorate.runs import RunDirectory
from peft_models import linear_model


@pytest.mark.fault("full disk, simulated")
def test_a_monitor_lets_go_of_its_files_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    monitor = Monitor(tmp_path)
    for _ in range(2):
        model(torch.ones(4, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        monitor.update(optimizer)
    files = [monitor._metrics._file, monitor._layers._writer._file]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JsonlWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        monitor.close()
    assert len(files) == 2 and all(file.closed for file in files)
    monitor.close()  # the second time nothing happens


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")]
)
def test_a_loop_that_was_left_by_an_error_did_not_finish(
    error: type[BaseException] | None, status: str, tmp_path: Path
) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    with suppress(KeyboardInterrupt, RuntimeError), Monitor(tmp_path) as monitor:
        model(torch.ones(4, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        monitor.update(optimizer)
        if error is not None:
            raise error
    assert RunDirectory(tmp_path).read_run()["status"] == status
    monitor.close()
    assert RunDirectory(tmp_path).read_run()["status"] == status
    assert ("--resume" in " ".join(judge(load_run(tmp_path)).details)) is False


def test_a_loop_that_an_alarm_ended_was_stopped(tmp_path: Path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    monitor = Monitor(tmp_path, on_alarm="stop")
    optimizer.step(loss=float("nan"))
    monitor.update(optimizer)
    monitor.close()
    assert RunDirectory(tmp_path).read_run()["status"] == "stopped"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"lorate": "0.1", "status": "failed", "rule": {"name": "normalized"}}, "finished"),
        ({"lorate": "0.1", "status": "failed", "command": "lorate train"}, "failed"),
        ({"status": "failed"}, "failed"),  # somebody else's file
    ],
)
def test_a_run_that_failed_and_was_resumed_finishes(found: dict[str, Any], status: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(found))
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    with Monitor(tmp_path, resume_at=3) as monitor:
        model(torch.ones(1, 6, dtype=torch.float64)).sum().backward()
        optimizer.step()
        monitor.update(optimizer)
        assert (json.loads((tmp_path / "run.json").read_text())["status"] == "running") == (status == "finished")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == status
