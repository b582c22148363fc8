"""What fuzzing found, so that it stays mended."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from fuzz_inputs import BOMB, json_line
from fuzz_targets import SETTING, STEP
from peft import LoraConfig, get_peft_model

from fuzz_box import Box, Said, check_said, say
from lorate.cli.train import options_from_file
from lorate.errors import LorateError
from lorate.tasks import load_model
from lorate.training import TrainConfig
from lorate.training.adapter import open_adapter
from lorate.training.adapter_files import adapter_options
from report.synthetic import write_run

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
NESTED = b"[" * 100_000


@pytest.mark.parametrize(
    "value",
    ["!!int abc", "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "!!binary é", "2024-13-45", "[" * 3000],
)
def test_a_yaml_value_that_its_tag_does_not_fit_is_one_sentence(value: str, tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"rank: {value}\n")
    with pytest.raises(LorateError, match="is not YAML"):
        options_from_file(file)


def test_a_yaml_value_of_a_thousand_million_words_is_shown_in_a_few(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"rank: {BOMB}\n")
    with pytest.raises(LorateError, match="rank must be a whole number") as error:
        TrainConfig.from_mapping(options_from_file(file), source="a file")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["rank", "alpha", "smoothness", "steps"])
def test_a_number_that_no_float_holds_is_one_sentence(name: str) -> None:
    with pytest.raises(LorateError, match=f"{name} must be a"):
        TrainConfig.from_mapping({name: 10**400}, source="a file").scaling  # noqa: B018


def _on_run(tmp_path: Path, *words: str, **files: bytes) -> Said:
    box = Box(tmp_path / "box")
    run = write_run(box.out / "run", layers=False).path
    box.put({f"out/run/{name.replace('_json', '.json')}": content for name, content in files.items()})
    assert run.exists()
    with box.watched():
        said = say(list(words))
    check_said(said)
    return said


def test_a_run_file_nested_without_end_is_one_sentence(tmp_path: Path) -> None:
    said = _on_run(tmp_path, "report", "out/run", run_json=NESTED)
    assert said.code == 2 and "cannot be read as JSON" in said.err


@pytest.mark.parametrize("change", [{"rule": 1}, {"lower_bound": "0"}, {"smoothness": [1]}, {"precision": 10**400}])
def test_a_setting_of_another_type_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    said = _on_run(tmp_path, "certify", "out/run", setting_json=json_line(SETTING | change))
    assert said.code == 2 and next(iter(change)) in said.err


@pytest.mark.parametrize(
    "change", [{"scaled_grad_norm": [1]}, {"sum_eta": None}, {"lr": "1"}, {"scaled_stacked_norm": 1e300}]
)
def test_a_record_of_another_type_is_not_certifiable_and_still_drawn(change: dict[str, Any], tmp_path: Path) -> None:
    files = {
        "setting_json": json_line(SETTING),
        "metrics.jsonl": b"".join(json_line({**STEP, "step": step, **change}) + b"\n" for step in (1, 2, 3)),
    }
    said = _on_run(tmp_path, "certify", "out/run", **files)
    assert said.code == 2 and next(iter(change)) in said.out
    assert _on_run(tmp_path, "report", "out/run", **files).code == 0


@pytest.mark.parametrize("name", ["[/]", "[/bold]", "\udcff", "[red]"])
def test_any_name_of_a_page_can_be_printed(name: str, tmp_path: Path) -> None:
    said = _on_run(tmp_path, "report", "out/run", "-o", f"out/{name}.html")
    assert said.code == 0
    assert name.replace("\udcff", "�") in said.out


def test_an_error_is_one_printable_line(tmp_path: Path) -> None:
    said = _on_run(tmp_path, "report", "out/two\nlines\x1b[2J")
    assert said.code == 2 and "\x1b" not in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        '"x"',
        '{"peft_type": "LORA", "target_modules": [], "r": 2, "lora_alpha": 1' + "0" * 400 + "}",
    ],
)
def test_an_adapter_whose_description_is_damaged_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(LorateError, match=r"adapter_config.json (is damaged|cannot be read as JSON)") as error:
        adapter_options(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("file", "change"), [("adapter_model.safetensors", b"[" * 99), ("adapter_config.json", b"true")]
)
def test_an_adapter_that_peft_cannot_open_is_one_sentence(
    file: str, change: bytes, tmp_path: Path, llama_dir: Path
) -> None:
    base = load_model(str(llama_dir), "causal-lm")
    options = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(copy.deepcopy(base.model), options).save_pretrained(tmp_path)
    if file.endswith("json"):
        content = json.loads((tmp_path / file).read_text())
        change = json.dumps({**content, "bias": json.loads(change)}).encode()
    (tmp_path / file).write_bytes(change)
    with pytest.raises(LorateError, match=r"The adapter in .* is damaged: "):
        open_adapter(base, tmp_path, trainable=True)


@pytest.mark.parametrize("alpha", ["1e-320", "1e308", "1e12"])
def test_numbers_of_the_attention_model_beyond_what_can_be_solved_are_one_sentence(alpha: str) -> None:
    said = say(["attention", "compare", "--alpha", alpha, "--lambda", "0.5"])
    assert said.code == 2 and "alpha" in said.err
    check_said(said)
