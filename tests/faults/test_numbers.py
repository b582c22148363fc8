"""Every number that a user gives, as NaN, infinite, huge, tiny or of another kind: a plan, or one sentence."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from fault_cases import sample
from fault_outcome import said_in_one_sentence

from fuzz_box import say
from lorate.errors import LorateError
from lorate.training import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

WHOLE = ("rank", "batch_size", "accumulate", "steps", "max_length", "seed", "eval_examples", "eval_every", "save_every",
         "samples")  # fmt: skip
REAL = ("alpha", "dropout", "lr", "smoothness", "eval_fraction")
NUMBERS = ("nan", "inf", "-inf", "1e400", "-1e400", "1e308", "-1e308", "5e-324", "-0.0", "0", "-1", "1e-320", "1.5",
           "9" * 400, "-" + "9" * 30, "9223372036854775808", "1_0", "0x10", "٣", "1e5", "", " ", "true", "null", "[1]",
           "{}", "3 4", "½", "1,5")  # fmt: skip
RULES = {"smoothness": "theory"}


@pytest.mark.fault("a number that nobody meant, in a file of options")
@pytest.mark.parametrize(("option", "number"), sample(list(itertools.product(WHOLE + REAL, NUMBERS)), 4))
def test_a_file_of_options_holds_any_number(option: str, number: str, tmp_path: Path, llama_dir: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"model: {tmp_path}/none\nrule: {RULES.get(option, 'auto')}\n{option}: {number}\n")
    said = say(["train", "--config", str(file), "--dry-run"])
    assert said.code in (1, 2)  # the model is missing at the latest
    said_in_one_sentence(said)


@pytest.mark.fault("a number that nobody meant, on the command line")
@pytest.mark.parametrize(("option", "number"), sample(list(itertools.product(WHOLE + REAL, NUMBERS)), 4))
def test_the_command_line_holds_any_number(option: str, number: str, tmp_path: Path) -> None:
    word = f"--{option.replace('_', '-')}={number}"
    said = say(["train", "--model", f"{tmp_path}/none", "--rule", RULES.get(option, "auto"), "--dry-run", word])
    assert said.code in (1, 2)
    if "Usage:" not in said.err:
        said_in_one_sentence(said)


VALUES: dict[str, Any] = {
    "NaN": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "1e308": 1e308, "5e-324": 5e-324, "0": 0, "-1": -1,
    "10**400": 10**400, "-0.0": -0.0, "True": True, "None": None, "text": "3", "a list": [3], "a map": {"a": 3},
}  # fmt: skip


@pytest.mark.fault("a number that nobody meant, in Python")
@pytest.mark.parametrize(("option", "value"), list(itertools.product(WHOLE + REAL, VALUES)))
def test_options_in_python_are_any_number(option: str, value: str) -> None:
    """An accepted one is finite and within the range that its description names."""
    try:
        config = TrainConfig.from_mapping({"rule": RULES.get(option, "auto"), option: VALUES[value]}, source="a test")
    except LorateError as error:
        assert option in str(error).replace("-", "_") and len(str(error)) < 300
    else:
        accepted = getattr(config, option)
        assert accepted is None or -1e308 <= accepted <= 1e308
        assert config.scaling > 0
