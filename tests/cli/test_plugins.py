"""Commands of other packages: found by entry points, imported late, and one that is broken spoils no other."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import typer

from lorate.cli import commands
from lorate.cli.app import run


def shout(word: str) -> None:
    """Say it loud."""
    print(word.upper())


group = typer.Typer(help="Two of them.")
group.command()(shout)
group.command("again")(shout)
not_a_command = object()


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"shout": "shout", "both": "group", "broken": "nothing", "strange": "not_a_command", "train": "shout"}
    points = [EntryPoint(name, f"{__name__}:{value}", commands.GROUP) for name, value in names.items()]
    points.append(EntryPoint("absent", "no_such_package:command", commands.GROUP))
    monkeypatch.setattr(commands, "entry_points", lambda group: points)


@pytest.mark.usefixtures("others")
def test_they_are_commands_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["shout", "hey"]) == 0 and run(["both", "again", "you"]) == 0
    assert capsys.readouterr().out == "HEY\nYOU\n"
    run(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Say it loud." in text and "Two of them." in text and "Fine-tune a language model" in text


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(("name", "reason"), [("broken", "nothing"), ("absent", "no_such_package"), ("strange", "")])
def test_a_broken_one_is_a_sentence(name: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name]) == 2
    error = capsys.readouterr().err
    assert f"lorate: The command '{name}' of" in error and reason in error and "Traceback" not in error


@pytest.mark.usefixtures("others")
def test_lorates_own_commands_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--rule", "no such rule"]) == 2
    assert "NO" not in capsys.readouterr().out


def test_they_are_imported_only_when_needed() -> None:
    code = (
        "import sys; from lorate.cli.app import run; run({}); print([m for m in sys.modules if 'lorate_papers' in m])"
    )
    for words, imported in ((["rules"], False), (["reproduce", "--help"], True)):
        out = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True, check=True)
        assert (out.stdout.splitlines()[-1] != "[]") == imported, out.stdout


def test_the_help_of_all_commands_imports_nothing_slow() -> None:
    code = "import sys; from lorate.cli.app import run; run(['--help']); print([m for m in {} if m in sys.modules])"
    slow = ("transformers", "peft", "matplotlib", "scipy", "sklearn", "joblib", "datasets")
    out = subprocess.run([sys.executable, "-c", code.format(slow)], capture_output=True, text=True, check=True).stdout
    assert "reproduce" in out and out.splitlines()[-1] == "[]"
