"""A full disk, a read-only one, a file where a directory should be: one sentence, and what was there is kept."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.cli.app import run as command
from lorate.errors import StorageError
from lorate.jsonl import JsonlWriter
from lorate.runs import RunDirectory
from lorate.training import Listener, TrainConfig, resume, train
from lorate.training.checkpoints import checkpoints
from training_runs import adapter_bytes, evaluations, metrics, ten_records

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

MEGABYTES = 4


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def whole(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    folder = tmp_path_factory.mktemp("storage")
    config = TrainConfig(
        model=str(llama_dir), data=ten_records(folder), rank=2, alpha=4.0, steps=6, max_length=16, samples=0,
        device="cpu", batch_size=2, save_every=2, eval_every=3,
    )  # fmt: skip
    train(config, folder / "whole")
    return config, folder / "whole"


class Fill(Listener):
    """Fills the disk after a step, or at the beginning of a phase; a few bytes may be left."""

    def __init__(self, disk: Path, step: int = 0, phase: str = "", leave: int = 0) -> None:
        self._filler, self._step, self._phase, self._leave = disk / "filler", step, phase, leave

    def step(self, record: Any, total: int) -> None:
        if record["step"] == self._step:
            self._fill()

    def phase(self, text: str) -> None:
        if text == self._phase and (self._step == 0 or not self._filler.exists()):
            self._fill()

    def _fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(file.tell() // 4096 * 4096 - self._leave)


@pytest.mark.fault("full disk")
@pytest.mark.parametrize(
    ("when", "step"),
    [
        ({"step": 4}, 2),  # the checkpoint of step 4 finds no room at all
        ({"step": 4, "leave": 24576}, 2),  # and room for a part of it
        ({"step": 5}, 4),  # the record of step 6, or the checkpoint after it
        ({"phase": "Saving"}, 6),
    ],
    ids=["checkpoint", "half a checkpoint", "record", "adapter"],
)
def test_a_full_disk_keeps_what_was_there_and_the_run_goes_on_when_there_is_room(
    when: dict[str, Any], step: int, disk: Path, whole: tuple[TrainConfig, Path]
) -> None:
    config, expected = whole
    run = RunDirectory(disk / "run")
    with pytest.raises(StorageError, match="what was written before is kept: fix this, then go on with --resume"):
        train(config, run.path, listener=Fill(disk, **when))
    assert run.read_run()["status"] in ("running", "failed") and run.read_config()
    good = [checkpoint.step for checkpoint in checkpoints(run.checkpoints) if checkpoint.fault() is None]
    assert good[0] == step
    records = metrics(run.path)
    assert records == metrics(expected)[: len(records)]
    assert not list(run.path.glob(".*.tmp")) and not (run.path / ".adapter.new").exists()
    (disk / "filler").unlink()
    resume(run.path)
    assert metrics(run.path) == metrics(expected) and evaluations(run.path) == evaluations(expected)
    assert adapter_bytes(run.path) == adapter_bytes(expected)


@pytest.mark.fault("full disk")
def test_no_room_for_longer_training_keeps_adapter_and_report(disk: Path, whole: tuple[TrainConfig, Path]) -> None:
    _, expected = whole
    run = RunDirectory(shutil.copytree(expected, disk / "run"))
    before = {path: path.read_bytes() for path in (run.report, run.adapter / "adapter_model.safetensors", run.readme)}
    with pytest.raises(StorageError, match="no space left"):
        resume(run.path, steps=8, listener=Fill(disk, phase="Training"))
    assert before == {path: path.read_bytes() for path in before}
    assert run.read_run()["result"] is not None


@pytest.mark.fault("read-only disk")
def test_a_read_only_disk_is_refused_in_one_sentence(
    disk: Path, whole: tuple[TrainConfig, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = whole
    run = RunDirectory(shutil.copytree(expected, disk / "run"))
    _mount("-o", "remount,ro", str(disk))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(StorageError, match="read-only file system; what was written before is kept"):
        resume(run.path, steps=8)
    with pytest.raises(StorageError, match="read-only file system; no run was started"):
        train(config, disk / "new")
    with pytest.raises(StorageError, match="read-only file system"):
        train(config, run.path, force=True)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert command(["train", "--output", str(run.path), "--resume", "--steps", "8"]) == 1
    assert command(["report", str(run.path)]) == 1
    error = capsys.readouterr().err
    assert error.lower().count("read-only file system") == 2 and "Traceback" not in error


@pytest.mark.fault("a file instead of a directory")
@pytest.mark.parametrize("place", ["checkpoints", "adapter", ""])
def test_a_file_in_place_of_a_directory(
    place: str, whole: tuple[TrainConfig, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = whole
    if not place:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match=r"file/run: not a directory; no run was started"):
            train(config, tmp_path / "file" / "run")
        return
    run = RunDirectory(shutil.copytree(expected, tmp_path / "run"))
    shutil.rmtree(run.path / place)
    (run.path / place).write_text("mine")
    assert command(["train", "--output", str(run.path), "--resume", "--steps", "8"]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert (run.path / place).read_text() == "mine"


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.fault("full disk, simulated")
@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr(os, "replace", _full),
        lambda patch: patch.setattr(os, "fsync", _full),
        lambda patch: patch.setattr(torch, "save", _full),
        lambda patch: patch.setattr(JsonlWriter, "write", _full),
        lambda patch: patch.setattr(Path, "mkdir", _full),
    ],
    ids=["os.replace", "os.fsync", "torch.save", "JsonlWriter.write", "Path.mkdir"],
)
def test_a_disk_without_room_anywhere(
    break_it: Callable[[pytest.MonkeyPatch], None], whole: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    _, expected = whole
    run = RunDirectory(shutil.copytree(expected, tmp_path / "run"))
    before = {path: path.read_bytes() for path in (run.report, run.config, run.adapter / "adapter_model.safetensors")}
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        with pytest.raises(StorageError, match="no space left on device"):
            resume(run.path, steps=8)
    assert run.read_run()["result"] is not None
    good = [checkpoint.step for checkpoint in checkpoints(run.checkpoints) if checkpoint.fault() is None]
    assert good[0] == 6
    assert before == {path: path.read_bytes() for path in before} or run.read_config()["steps"] == 8
    resume(run.path, steps=8)
    assert [record["step"] for record in metrics(run.path)] == list(range(1, 9))
