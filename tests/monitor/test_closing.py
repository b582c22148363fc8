"""Files are closed whatever happens."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import lorate
from lorate.jsonl import JsonlWriter
from lorate.monitor import Monitor
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
    files = [writer._file for writer in (monitor._metrics, monitor._layers) if writer is not None]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JsonlWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        monitor.close()
    assert len(files) == 2 and all(file.closed for file in files)
    monitor.close()  # the second time nothing happens
