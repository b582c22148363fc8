"""A run that was left alone, and one that Ctrl-C ended in step 6, with checkpoints of steps 4 and 6."""

import copy
import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.training import TrainConfig, ending, preparation, samples, train, trainers
from training_runs import PressCtrlC, ten_records


@pytest.fixture(scope="session")
def runs(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``whole`` and ``cut``."""
    folder = tmp_path_factory.mktemp("fault-runs")
    config = TrainConfig(
        model=str(llama_dir), data=ten_records(folder), rank=2, alpha=4.0, steps=8, max_length=16, samples=1,
        device="cpu", dropout=0.1, batch_size=2, save_every=2,
    )  # fmt: skip
    assert train(config, folder / "whole").status == "finished"
    assert train(config, folder / "cut", listener=PressCtrlC(6)).status == "interrupted"
    return folder


samples.NEW_TOKENS = 3


@pytest.fixture(scope="session")
def alone(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """Options, and a run with them that nothing happened to."""
    folder = tmp_path_factory.mktemp("signals")
    config = TrainConfig(
        model=str(llama_dir), data=ten_records(folder), rank=2, alpha=4.0, steps=8, max_length=16, samples=1,
        device="cpu", dropout=0.1, batch_size=2, save_every=2, eval_every=3,
    )  # fmt: skip
    train(config, folder / "whole")
    return config, folder / "whole"


class Endless(BaseException):
    """A case that would not have ended: nobody catches this."""


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """A minute for each case."""

    def stop(*_: Any) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


_prepared: dict[str, tuple[Any, Any]] = {}


def _prepare_once(config: TrainConfig, phase: Any = None) -> Any:
    """A copy of what was loaded for the same options before, with torch's generator as it was left."""
    key = repr(config)
    if key not in _prepared:
        _prepared[key] = preparation.prepare(config), torch.get_rng_state()
    original, state = _prepared[key]
    torch.set_rng_state(state)
    shared = (original.data, original.base.processor)
    return copy.deepcopy(original, {id(one): one for one in shared})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes time and is not a place for these faults: the page at the end, loading, collecting garbage."""
    monkeypatch.setattr(ending, "write_report", lambda *_: None)
    monkeypatch.setattr(trainers, "prepare", _prepare_once)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
