"""``lorate alpha`` and ``lorate train --alpha law``."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.test_calibrate import World
from lorate.calibration import halving
from lorate.cli.app import run
from lorate.errors import LorateError

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(c=3200.0)
    monkeypatch.setattr(halving, "train_point", made)
    return made


def test_law(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alpha", "law", "16"]) == 0 and capsys.readouterr().out == "1024\n"
    assert run(["alpha", "law", "2", "--c", "10"]) == 0 and capsys.readouterr().out == "14.14213562\n"
    assert run(["alpha", "law", "16", "--rslora"]) == 0 and capsys.readouterr().out == "256\n"
    assert run(["alpha", "law", "0"]) == 2
    assert "the rank r must be a whole number of at least 1, got 0." in capsys.readouterr().err


def test_calibrate_prints_what_to_set(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alpha", "calibrate", "--quick", "-o", str(tmp_path / "out"), "--jobs", "1"]) == 0
    output = capsys.readouterr().out
    assert "lora_alpha = 3200·√r" in output and "½ lies inside" in output and "at lr 0.0001" in output
    content = json.loads((tmp_path / "out" / "alpha.json").read_text())
    assert {"c", "exponent", "interval", "contains_half"} <= set(content)
    assert {rank for rank, *_ in world.calls} == {1, 4, 16, 64} and {steps for *_, steps, _ in world.calls} == {7, 30}


def test_what_is_typed_wins_over_quick(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["alpha", "calibrate", "--quick", "--ranks", "4,16", "--seeds", "2", "-j", "1", "-o", str(tmp_path / "out")]
    assert run(words) == 0
    assert {rank for rank, *_ in world.calls} == {4, 16} and {seed for *_, seed in world.calls} == {0, 1}
    assert "two ranks alone give no interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "8"], "a calibration needs at least two ranks, got 8"),
        (["--alphas", "8"], "a calibration needs at least two alphas, got 8"),
        (["--ranks", "8,many"], "--ranks must be whole numbers separated by commas, got '8,many'"),
        (["--quick", "--model", "x"], "--quick is for the small language model of lorate's own"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["alpha", "calibrate", *options, "-o", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_train_with_the_law(llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": f"{x} :", "completion": f" {y}"}) for x in "abc" for y in "abcde"))
    words = ["train", "--model", str(llama_dir), "--data", str(data), "--device", "cpu", "--max-length", "16"]
    words += ["--steps", "1", "--rank", "4", "--samples", "0", "--output", str(tmp_path / "run")]
    assert run([*words, "--alpha", "much"]) == 2
    assert "'much' is neither a number nor law" in " ".join(capsys.readouterr().err.split())
    assert run([*words, "--alpha", "law"]) == 0
    config: Any = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["lora_alpha"] == 512.0 and config["r"] == 4


@pytest.mark.slow
def test_quick_on_the_small_language_model(tmp_path: Path) -> None:
    assert run(["alpha", "calibrate", "--quick", "-o", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "alpha.json").read_text())
    assert content["c"] > 50 and content["interval"][0] < content["exponent"] < content["interval"][1]


@pytest.mark.parametrize(("typed", "task"), [([], "image-classification"), (["--task", "causal-lm"], "causal-lm")])
def test_the_task_that_is_typed_wins_over_the_file(
    typed: list[str], task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def begin(sweep: Any, *_: Any, **__: Any) -> None:
        seen.append(sweep.own["task"])
        raise LorateError("enough")

    monkeypatch.setattr("lorate.calibration.calibrate", begin)
    (tmp_path / "own.yaml").write_text("task: image-classification\nmodel: some/model\n")
    assert run(["alpha", "calibrate", "--config", str(tmp_path / "own.yaml"), *typed]) == 2
    assert seen == [task]
