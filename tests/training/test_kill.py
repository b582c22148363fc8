"""kill -9 at any moment: the run directory goes on and ends with the numbers of the run that was left alone.

Every run is a child of one process that has imported everything, so a trial costs about a second.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.jsonl import JsonlWriter, read_jsonl
from lorate.runs import RunDirectory
from lorate.training import TrainConfig, checkpoints, ending, heldout, outputs, resume, session, train, untrained
from training_runs import adapter_bytes, evaluations, metrics, ten_records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *(
            "lorate.training.session",
            "training_runs",
            "trl.trainer.sft_trainer",
            "transformers.models.llama.modeling_llama",
        ),
        *("pandas", "datasets.packaged_modules", "matplotlib.pyplot"),
    ]
)
TRIALS = 20


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(owner: Any, name: str, call: int = 1, when: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Be killed instead of a call of a function."""
    original, left = getattr(owner, name), [call]

    def wrapper(*args: Any, **options: Any) -> Any:
        left[0] -= when(*args, **options)
        return die() if left[0] == 0 else original(*args, **options)

    setattr(owner, name, wrapper)


def die_in_torch_save(call: int) -> None:
    """Half a file is on the disk."""
    original, left = torch.save, [call]

    def save(value: Any, path: Any, *args: Any, **options: Any) -> None:
        original(value, path, *args, **options)
        left[0] -= 1
        if left[0] == 0:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    torch.save = save


def die_in_a_line(call: int) -> None:
    """Half a record is on the disk."""
    original, left = JsonlWriter.write, [call]

    def write(self: JsonlWriter, record: Any) -> None:
        original(self, record)
        left[0] -= self.path.name == "metrics.jsonl"
        if left[0] == 0:
            os.truncate(self.path, self.path.stat().st_size - 30)
            die()

    JsonlWriter.write = write  # type: ignore[method-assign]


def die_while_deleting(prefix: str) -> None:
    """Half of a directory is gone."""
    original = shutil.rmtree

    def rmtree(path: Any, *args: Any, **options: Any) -> None:
        if Path(path).name.startswith(prefix):
            for file in sorted(Path(path).iterdir())[::2]:
                file.unlink()
            die()
        original(path, *args, **options)

    shutil.rmtree = rmtree  # type: ignore[assignment]


def finishes(run: RunDirectory, info: dict[str, Any]) -> bool:
    return info["status"] == "finished"


MOMENTS: dict[str, Callable[[], None]] = {
    "in run.json": lambda: die_at(os, "fsync"),
    "in config.yaml": lambda: die_at(os, "fsync", 2),
    "before run.json": lambda: die_at(RunDirectory, "write_run"),
    "between run.json and config.yaml": lambda: die_at(RunDirectory, "write_config"),
    "in the first evaluation": lambda: die_at(heldout.Evaluations, "scores"),
    "between eval.jsonl and before.json": lambda: die_at(untrained, "write_json"),
    "before the first step": lambda: die_at(session._Session, "_train"),
    "in the record of step 1": lambda: die_in_a_line(1),
    "in the record of step 4": lambda: die_in_a_line(4),
    "in the optimizer state of the first checkpoint": lambda: die_in_torch_save(1),
    "in a later checkpoint": lambda: die_in_torch_save(11),
    "before the first manifest": lambda: die_at(checkpoints, "seal"),
    "before a later manifest": lambda: die_at(checkpoints, "seal", 3),
    "while an old checkpoint is deleted": lambda: die_while_deleting("checkpoint"),
    "before the last evaluation": lambda: die_at(heldout.Evaluations, "at", 2),
    "while the adapter is saved": lambda: die_at(outputs, "card_section"),
    "before the first best adapter has its name": lambda: die_at(Path, "rename"),
    "before the last best adapter has its name": lambda: die_at(Path, "rename", 2),
    "between the old adapter and the new one": lambda: die_at(Path, "rename", 3),
    "before run.json says finished": lambda: die_at(RunDirectory, "write_run", 1, finishes),
    "before the report": lambda: die_at(ending, "write_report"),
}


def _begin(config: TrainConfig, place: Path, moment: str | None = None) -> None:
    if moment is not None:
        MOMENTS[moment]()
    train(config, place)


def _go_on(config: TrainConfig, place: Path) -> None:
    """What a person does: the same command if there is no run yet, else --resume."""
    if not (place / "run.json").exists():
        train(config, place)
    elif not (place / "report.html").exists():
        resume(place)


def in_child(function: Callable[..., None], *args: Any, kill_after: float | None = None) -> tuple[int, float]:
    """Exit code of a child that runs the function, and how long it took."""
    child = FORKS.Process(target=function, args=args)
    started = time.monotonic()
    child.start()
    child.join(120 if kill_after is None else kill_after)
    if child.is_alive():
        child.kill()
        child.join(20)
    assert child.exitcode is not None
    return child.exitcode, time.monotonic() - started


@pytest.fixture(scope="module")
def whole(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path, float]:
    """A run that is left alone, and the seconds it took."""
    folder = tmp_path_factory.mktemp("kill")
    config = TrainConfig(
        model=str(llama_dir), data=ten_records(folder), rank=2, alpha=4.0, steps=5, max_length=16, samples=0,
        device="cpu", dropout=0.1, batch_size=2, save_every=1, eval_every=3,
    )  # fmt: skip
    assert in_child(_begin, config, folder / "first")[0] == 0  # the first child waits for the imports
    code, seconds = in_child(_begin, config, folder / "whole")
    assert code == 0
    return config, folder / "whole", seconds


def same_as(run: Path, whole: Path) -> None:
    assert metrics(run) == metrics(whole)
    assert evaluations(run) == evaluations(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert (run / "samples.json").read_text() == (whole / "samples.json").read_text()
    layers = [record.get("step") for record in read_jsonl(run / "layers.jsonl").records]
    assert len(layers) == len(set(layers))
    ours, theirs = (json.loads((path / "run.json").read_text()) for path in (run, whole))
    assert ours["status"] == "finished" and ours["result"] == theirs["result"]
    assert (run / "report.html").exists()
    assert not list(run.glob(".*.tmp")) and not (run / ".adapter.new").exists()


@pytest.mark.fault("kill -9 at a chosen moment")
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_chosen_moment(moment: str, whole: tuple[TrainConfig, Path, float], tmp_path: Path) -> None:
    config, expected, _ = whole
    assert in_child(_begin, config, tmp_path / "run", moment)[0] == -signal.SIGKILL
    assert in_child(_go_on, config, tmp_path / "run")[0] == 0
    same_as(tmp_path / "run", expected)


@pytest.mark.fault("kill -9 at a random moment")
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_at_a_random_moment(trial: int, whole: tuple[TrainConfig, Path, float], tmp_path: Path) -> None:
    config, expected, seconds = whole
    moment = random.Random(trial).uniform(trial, trial + 1) / TRIALS  # one in each twentieth of the run
    in_child(_begin, config, tmp_path / "run", kill_after=moment * seconds)
    assert in_child(_go_on, config, tmp_path / "run")[0] == 0
    same_as(tmp_path / "run", expected)
