"""The list of commands is there at once, and says what the commands say of themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from lorate.cli.app import run
from lorate.cli.commands import PLACES, summary


def test_help_comes_before_torch_is_loaded() -> None:
    code = (
        "import sys\nfrom lorate.cli.app import run\n"
        "assert run(['--help']) == 0 and run(['--version']) == 0\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_command_that_loads_models_says_something_before_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys\nfrom lorate.cli.console import stderr\n"
        "stderr.print = lambda *words, **more: (print('torch' in sys.modules, *words), sys.exit())\n"
        "from lorate.cli.app import run\nrun(['train'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.startswith("False") and "Loading" in result.stdout


WRONG = {
    "--batch-size 0": "batch_size must be 1 or more",
    "--steps 5 --epochs 2": "steps or epochs, not both",
    "--dora --rule theory --smoothness 1": "does not hold for DoRA",
    "--init pissa --quantize 4bit": "only in 16 or 32 bits",
    "--quantize 4bit --dtype float16 --device cpu": "float16 on a CPU",
    "--device gpu": "device must be cpu, cuda, cuda:1, mps",
    "--columns promt=x": "did you mean prompt?",
    "--data {here}/none.jsonl": "no such file or folder",
    "--eval-data {here}/none.jsonl": "no such file or folder",
    "--task sequence-classification": "no embedded data",
    "--model {here}/none": "No model at",
    "--adapter {here}": "holds no adapter",
    "--chat-template {here}/none": "cannot be read",
    "--metric-command nosuchprogram": "metric_command should begin with a program",
    "--on-alarm-run nosuchprogram": "on_alarm_run should begin with a program",
    "--output {here}": "is not empty",
    "--processes 2 --batch-size 0": "batch_size must be 1 or more",
    "--resume": "needs --output",
    "--resume --output {here}": "no run",
}


def test_what_options_alone_refuse_comes_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    lines = {line.replace("{here}", str(tmp_path)): words for line, words in WRONG.items()}
    code = (
        "import sys\nfrom lorate.cli.app import run\n"
        "for line in sys.argv[1:]:\n"
        "    code = run(['train', *line.split()])\n"
        "    print(code, {'torch', 'transformers', 'datasets'} & {*sys.modules}, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, *lines]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stderr.splitlines()
    assert said[1::2] == ["2 set()"] * len(lines), said
    for sentence, (line, expected) in zip(said[::2], lines.items(), strict=True):
        assert expected in sentence, (line, sentence)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_every_command_has_a_summary_and_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, place in PLACES.items():
        words = summary(place).split()
        assert len(words) > 3
        assert run([name, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert " ".join(words[:4]).rstrip(".") in shown


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err
