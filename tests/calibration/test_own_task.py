"""The user's own model and data: the pipeline of lorate train in a plain loop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.adapters import find_pairs
from lorate.calibration import Sweep, calibrate
from lorate.calibration.work import OwnTask, train_point
from lorate.training import TrainConfig, train

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


@pytest.fixture
def own(llama_dir: Path, tmp_path: Path) -> dict[str, Any]:
    words = ["good", "bad", "film", "book", "a", "b", "c", "d", "e"]
    file = tmp_path / "data.jsonl"
    rows = [{"prompt": f"{x} {y} :", "completion": f" {y} {x} one"} for x in words for y in words if x != y]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return {"model": str(llama_dir), "data": str(file), "max_length": 16, "device": "cpu"}


def test_losses_are_those_of_lorate_train(own: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig(**own, rank=2, alpha=4.0, steps=1, rule="constant", lr=1e-3, samples=0)
    task = OwnTask(config)
    assert [pair.scaling for pair in find_pairs(task.model)] == [2.0] * 4 and task.model.training
    batches = task.batches()
    first = float(task.model(**next(batches)).loss)
    outcome = train(config, tmp_path / "run")
    record = json.loads((outcome.run.metrics).read_text().splitlines()[0])
    assert first == pytest.approx(record["loss"], rel=1e-5)
    assert outcome.change is not None and task.validation_loss() == pytest.approx(outcome.change.before)
    for _ in range(40):  # more than a pass
        assert next(batches)["input_ids"].shape[0] <= 4
    assert task.model.training


def test_a_point_depends_on_its_arguments_alone(own: dict[str, Any]) -> None:
    def point(**changes: Any) -> float:
        given = {
            "own": own,
            "rank": 2,
            "alpha": 8.0,
            "lr": 1e-2,
            "steps": 4,
            "batch_size": 4,
            "seed": 0,
        }
        result = train_point(**{**given, **changes})
        assert result["loss"] is not None
        return float(result["loss"])

    torch.manual_seed(99)
    one = point()
    assert point() == one
    assert len({one, point(alpha=16.0), point(rank=3), point(lr=2e-2), point(seed=1), point(steps=5)}) == 6


def test_a_run_that_diverges_has_no_loss(own: dict[str, Any]) -> None:
    result = train_point(own, 2, 1e38, 10.0, 5, 4, 0)
    assert result["loss"] is None


@pytest.mark.slow
def test_a_sweep_in_two_processes(own: dict[str, Any], tmp_path: Path) -> None:
    sweep = Sweep(own=own, ranks=(1, 4), alphas=(1, 8, 64, 512, 4096), lrs=(1e-3,), steps=12, batch_size=4, seeds=1)
    outcome = calibrate(sweep, tmp_path / "out", jobs=2)
    assert outcome.content["task"]["model"] == own["model"] and outcome.fit.interval is None
