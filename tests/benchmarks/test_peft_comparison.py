"""PEFT's method comparison with lorate: end to end on SmolLM2, with sums in its format, whole and in pieces."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lorate.tasks import load_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "benchmarks" / "peft_comparison" / "compare.py"
EXPERIMENT = "lora/smollm2-rank4"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for a checkout, with SmolLM2 in a folder, of which two layers are left."""
    folder = tmp_path_factory.mktemp("checkout") / "MetaMathQA"
    shutil.copytree(HERE / "peft_harness", folder)
    loaded = load_model(None, "causal-lm")
    loaded.model.model.layers = loaded.model.model.layers[:2]
    loaded.model.config.num_hidden_layers = 2
    loaded.model.config.layer_types = None
    loaded.model.save_pretrained(folder / "model")
    loaded.processor.save_pretrained(folder / "model")
    options = json.loads((folder / "default_training_params.json").read_text())
    (folder / "default_training_params.json").write_text(json.dumps({**options, "model_id": str(folder / "model")}))
    return folder


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module, in a process that forgets the checkout's modules afterwards."""
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    yield importlib.import_module("compare")
    for name in ("data", "utils", "run"):
        sys.modules.pop(name, None)


def result(output: Path) -> dict[str, Any]:
    found = json.loads((output / "result.json").read_text())
    return {**found["train_info"], "train_time": None}


@pytest.mark.parametrize("rule", ["auto", None])
def test_pieces_end_with_the_numbers_of_the_whole(
    compare: ModuleType, harness: Path, tmp_path: Path, rule: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(harness), EXPERIMENT, *([] if rule is None else ["--rule", rule]), "--output"]
    whole, pieces = str(tmp_path / "whole"), str(tmp_path / "pieces")
    assert compare.main([*command, whole]) == 0
    codes: list[int] = []
    while not codes or codes[-1] == 75:
        codes.append(compare.main([*command, pieces, "--minutes", "0"]))  # a step, or a batch of questions
        assert codes[-1] in (0, 75) and len(codes) < 12
    assert len(codes) > 4
    assert result(tmp_path / "pieces") == result(tmp_path / "whole")
    metrics = result(tmp_path / "whole")["metrics"]
    assert [entry["step"] for entry in metrics] == [2, 4, 4]
    assert metrics[1]["valid accuracy"] in (0, 1 / 3, 2 / 3, 1) and metrics[2]["test accuracy"] * 5 in range(6)
    assert metrics[2]["train loss"] < metrics[0]["train loss"] and metrics[2]["train samples"] == 8
    assert metrics[2]["forgetting"] != 0
    assert compare.main([*command, whole]) == 0 and "is there already" in capsys.readouterr().out


def test_a_folder_of_another_run_or_no_checkout_is_refused(compare: ModuleType, harness: Path, tmp_path: Path) -> None:
    command = [str(harness), EXPERIMENT, "--minutes", "0", "--output", str(tmp_path / "run")]
    assert compare.main([*command, "--rule", "auto"]) == 75
    with pytest.raises(SystemExit, match="holds another run"):
        compare.main([*command, "--rule", "normalized"])
    with pytest.raises(SystemExit, match="expected a checkout's method_comparison/MetaMathQA"):
        compare.main([str(tmp_path), *command[1:]])


def test_a_machine_without_a_gpu_gets_a_sentence(compare: ModuleType, harness: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(harness, tmp_path / "MetaMathQA", ignore=shutil.ignore_patterns("model"))
    (folder / "utils.py").write_text('raise RuntimeError("CUDA or XPU is not available")\n')
    with pytest.raises(SystemExit, match="cannot be used here: CUDA or XPU is not available"):
        compare.Harness(folder, EXPERIMENT)


def test_answers_are_generated_with_the_averaged_adapters(compare: ModuleType, harness: Path, tmp_path: Path) -> None:
    run = compare.Comparison(compare.Harness(harness, EXPERIMENT), "auto", tmp_path)
    batches = run.harness.batches(run.train_set, batch_size=2, bucket_factor=20, delete_cols=["response"])
    run.model.train()
    for _, rows in zip(range(3), batches, strict=False):
        run.step(rows)
    last = [one.detach().clone() for one in run.model.parameters() if one.requires_grad]
    with run.averaged():
        shown = [one.detach().clone() for one in run.model.parameters() if one.requires_grad]
        assert run.optimizer.is_averaged and not run.model.training
    assert not all(torch.equal(a, b) for a, b in zip(last, shown, strict=True))
    assert run.options["grad_norm_clip"] == 0 and run.scheduler is None


def test_the_script_runs_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "expected a checkout's" in done.stderr
