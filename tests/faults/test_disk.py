"""A disk that is full at any moment of a run: one sentence, nothing good is lost, and the same numbers in the end."""

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_cases import sample
from fault_outcome import compared

from lorate.errors import LorateError, StorageError
from lorate.jsonl import JsonlWriter
from lorate.runs import RunDirectory
from lorate.training import Listener, TrainConfig, resume, train
from lorate.training.checkpoints import checkpoints

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

CALLS: dict[str, tuple[Any, str, int]] = {
    "os.replace": (os, "replace", 16),
    "os.fsync": (os, "fsync", 48),
    "torch.save": (torch, "save", 16),
    "JsonlWriter.write": (JsonlWriter, "write", 12),
    "Path.mkdir": (Path, "mkdir", 8),
    "Path.rename": (Path, "rename", 1),
    "shutil.rmtree": (shutil, "rmtree", 6),
    "open": (builtins, "open", 24),
}
CASES = [(name, call) for name, (_, _, most) in CALLS.items() for call in range(1, most + 1)]


def full_at(call: int, original: Callable[..., Any], own: Callable[[Any], bool]) -> Callable[..., Any]:
    """Stands in for a function that finds no room in its ``call``-th call for a file of the run."""
    left = [call]

    def stand_in(*args: Any, **options: Any) -> Any:
        left[0] -= own(args)
        if left[0] == 0:
            left[0] = -1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **options)

    return stand_in


@pytest.mark.fault("full disk at any moment")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("name", "call"), sample(CASES, 16, 2))
def test_a_disk_that_is_full_once_costs_nothing_but_time(
    name: str,
    call: int,
    alone: tuple[TrainConfig, Path],
    tmp_path: Path,
) -> None:
    config, whole = alone
    run = tmp_path / "run"
    owner, function, _ = CALLS[name]

    def own(args: Any) -> bool:
        if name != "open":
            return True
        mode = args[1] if len(args) > 1 else "r"
        return str(run) in str(args[0]) and any(letter in str(mode) for letter in "wxa+")

    original = getattr(owner, function)
    with pytest.MonkeyPatch.context() as patch:
        broken = full_at(call, original, own)
        patch.setattr(owner, function, broken)
        if name == "open":
            patch.setattr(io, "open", broken)
        try:
            status = train(config, run).status
        except StorageError as error:
            assert "no space left on device" in str(error) and "\n" not in str(error)
            status = "failed"
    if status == "failed":
        good = [checkpoint.step for checkpoint in checkpoints(run / "checkpoints") if checkpoint.fault() is None]
        recorded = (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").exists() else 0
        assert not recorded or recorded <= 2 or (good and good[0] >= recorded - 3)
        if (run / "run.json").exists():
            resume(run)
        else:
            shutil.rmtree(run, ignore_errors=True)
            train(config, run)
    assert [what for what, same in compared(run, whole).items() if not same] == []
    assert not list(run.glob(".*.tmp"))


@pytest.mark.fault("the run directory is deleted")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("what", ["", "metrics.jsonl"])
def test_a_run_whose_directory_is_deleted_ends_at_once(
    what: str,
    alone: tuple[TrainConfig, Path],
    tmp_path: Path,
) -> None:
    config, _ = alone
    run, steps = tmp_path / "run", []

    class Delete(Listener):
        def step(self, record: Any, total: int) -> None:
            steps.append(record["step"])
            if record["step"] == 3:
                shutil.rmtree(run) if not what else (run / what).unlink()

    with pytest.raises(StorageError, match="is gone: it was deleted or replaced during the run"):
        train(config, run, listener=Delete())
    assert steps == [1, 2, 3]
    assert what or not run.exists(), list(run.rglob("*"))


@pytest.mark.fault("two runs at once")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", ["train", "force", "resume"])
def test_a_run_that_goes_on_is_left_alone_by_a_second_one(
    how: str,
    alone: tuple[TrainConfig, Path],
    tmp_path: Path,
) -> None:
    config, whole = alone
    run = tmp_path / "run"
    said: list[str] = []

    class Second(Listener):
        def step(self, record: Any, total: int) -> None:
            if record["step"] != 5:
                return
            with pytest.raises(LorateError) as error:
                if how == "resume":
                    resume(run)
                else:
                    RunDirectory.create(run, force=how == "force")
            said.append(str(error.value))

    assert train(config, run, listener=Second()).status == "finished"
    assert len(said) == 1 and ("in use by another process" in said[0] or "not empty" in said[0])
    assert [what for what, same in compared(run, whole).items() if not same] == []
