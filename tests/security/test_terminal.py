"""What a terminal is sent: names, prompts and errors are shown; only this program's own styles are obeyed."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.markup import escape
from rich.table import Table

from lorate.cli.app import run
from lorate.cli.console import PlainConsole
from lorate.cli.progress import TerminalListener
from lorate.monitor import Alarm
from lorate.runs import RunDirectory
from report.synthetic import write_run

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

# clears the screen, renames the window, hides what follows, overwrites the line, writes a link, turns the direction
ORDERS = "\x1b[2J\x1b]0;title\x07\x1b[8m\r\x08\x9b31m\x1b]8;;javascript:alert(1)\x1b\\\u202e\u2066\x7f\x00"
NAME = "[red]a[bold]:fire:[link \x1b[2J\x1b]0;t\x07\x9b31m\u202e\r\udcff"
"""May stand in the name of a file: styles, an emoji, orders, a byte that is not UTF-8."""
MARKUP = "[red]a[bold]:fire:[link"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def assert_plain(text: str, words: str = MARKUP) -> None:
    assert not OBEYED.search(text), ascii(text)
    assert words in text, text


def test_orders_in_the_text_are_shown_and_own_styles_work() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, color_system="standard", emoji=False, width=200)
    table = Table("head", escape(ORDERS), title=escape(ORDERS))
    table.add_row(escape(ORDERS), "[green]good[/]")
    console.print(table)
    console.print(f"[bold]{escape(ORDERS + MARKUP)}[/]", soft_wrap=True, highlight=False)
    own = re.compile(r"\x1b\[[0-9;]*m")
    assert set(own.findall(file.getvalue())) == {f"\x1b[{code}m" for code in (0, 1, 3, 32)}  # bold, italic, green
    assert_plain(own.sub("", file.getvalue()))
    assert "␛[2J␛]0;title" in file.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--data", f"{NAME}.jsonl"],
        ["train", "--model", f"{NAME}.gguf"],
        ["train", "--model", NAME],
        ["train", "--config", NAME],
        ["train", "--rule", NAME],
        ["train", "--targets", NAME, "--task", NAME],
        ["train", f"--{NAME}"],
        [NAME],
        ["report", NAME],
        ["certify", NAME],
        ["reproduce", NAME],
        ["alpha", "calibrate", "--ranks", NAME],
    ],
    ids=lambda words: " ".join(words).replace(NAME, "NAME"),
)
def test_errors_show_what_was_typed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert_plain(said.err, "")
    assert "red" in said.err and "🔥" not in said.err


@pytest.mark.parametrize("line", [{NAME[:-1]: 1}, {"prompt": NAME, "completion": ""}, {"text": "\ud800" + NAME}, NAME])
def test_errors_show_what_stands_in_the_data(tmp_path: Path, line: object, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"{NAME}.jsonl"
    file.write_text(json.dumps(line))
    assert run(["train", "--data", str(file), "--output", str(tmp_path / "run")]) == 2
    assert_plain(capsys.readouterr().err)


def test_a_run_shows_prompts_and_places(llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = tmp_path / f"{NAME}.jsonl", tmp_path / NAME[:-1]  # safetensors writes to no path but UTF-8
    rows = [{"prompt": f"{NAME[:-1]}{x} :", "completion": f" {x}{NAME[:-1]}"} for x in "abcdefgh"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", "--model", str(llama_dir), "--data", str(data), "--output", str(output), "--device", "cpu"]
    assert run([*words, "--steps", "2", "--rank", "2", "--max-length", "64", "--samples", "1"]) == 0
    said = capsys.readouterr()
    assert_plain(said.out)
    assert_plain(said.err, "Training")
    assert said.out.count(MARKUP) >= 4  # the prompt, and three places
    assert run(["report", str(output)]) == 0
    assert_plain(capsys.readouterr().out)


def test_notices_and_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalListener() as listener:
        listener.notice(NAME)
        listener.alarm(Alarm(NAME, NAME, NAME))
    said = capsys.readouterr().err
    assert_plain(said)
    assert said.count(MARKUP) == 3


def test_a_certificate_shows_words_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory: RunDirectory = write_run(tmp_path / "run", steps=3, layers=False)
    directory.write_run(directory.read_run() | {"rule": {"name": NAME, "lr": 1.0}, "monitor": {"full_batch": True}})
    run(["certify", str(directory.path)])
    said = capsys.readouterr()
    assert_plain(said.out + said.err, "")
