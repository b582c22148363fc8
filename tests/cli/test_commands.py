"""The list of commands is there at once, and says what the commands say of themselves."""

import subprocess
import sys

import pytest

from lorate.cli.app import run
from lorate.cli.commands import PLACES, SLOW, summary


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
        "import sys\nfrom lorate.cli.commands import stderr\nprint_ = stderr.print\n"
        "stderr.print = lambda *words, **more: (print('torch' in sys.modules, *words), sys.exit())\n"
        "from lorate.cli.app import run\nrun(['train'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.startswith("False") and "Loading" in result.stdout


def test_every_command_has_a_summary_and_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert {*SLOW} < {*PLACES}
    for name, place in PLACES.items():
        words = summary(place).split()
        assert len(words) > 3
        assert run([name, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert " ".join(words[:4]).rstrip(".") in shown


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err
