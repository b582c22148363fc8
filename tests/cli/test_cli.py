"""The command line: results, one-sentence errors, exit codes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lorate.cli import main
from lorate.cli.app import run
from lorate.cli.commands import PLACES
from lorate.jsonl import read_jsonl
from lorate.rules import RULES
from report.synthetic import write_run
from training_runs import OWN

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    rows = [{"prompt": f"{x} :", "completion": f" {y} {x}"} for x in ("good", "bad", "film", "book") for y in "abcde"]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


@pytest.fixture
def base(llama_dir: Path, chats: Path, tmp_path: Path) -> list[str]:
    return [
        "train", "--model", str(llama_dir), "--data", str(chats), "--output", str(tmp_path / "run"), "--device", "cpu",
        "--steps", "4", "--rank", "2", "--max-length", "16",
    ]  # fmt: skip


def test_train_then_report(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(base) == 0
    output = capsys.readouterr().out
    assert "Held-out loss" in output and "with rule auto" in output and "Prompt:" in output
    assert (tmp_path / "run" / "report.html").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["command"] == "lorate " + " ".join(base)
    assert run(["report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html")]) == 0
    assert "lorate" in (tmp_path / "page.html").read_text()


def test_a_yaml_file_supplies_options_and_the_command_line_wins(base: list[str], tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("steps: 50\nbatch-size: 2\nrule: normalized\nlr: 0.5\n")
    assert run([*base, "--lr", "10", "--config", str(file)]) == 0
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (config["steps"], config["batch_size"], config["rule"], config["lr"]) == (4, 2, "normalized", 10.0)
    again = ["train", "--config", str(tmp_path / "run" / "config.yaml"), "--output", str(tmp_path / "again")]
    assert run(again) == 0
    one, two = ([r | OWN for r in read_jsonl(tmp_path / n / "metrics.jsonl").records] for n in ("run", "again"))
    assert one == two


def test_dry_run_writes_nothing(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*base, "--dry-run"]) == 0
    assert "trainable parameters" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rule", "best"], "unknown rule 'best'"),
        (["--rank", "0"], "rank must be 1 or more, got 0"),
        (["--targets", "q_proj,nope"], "is called 'nope'"),
        (["--model", "{tmp}"], "{tmp}"),
        (["--data", "{tmp}/missing.jsonl"], "missing.jsonl"),
        (["--data", "{tmp}/empty.jsonl"], "empty.jsonl"),
        (["--data", "{tmp}/broken.jsonl"], "line 2"),
        (["--rule", "theory"], "needs the smoothness L"),
        (["--rule", "constant", "--lr", "-1"], "lr must be a finite number above 0"),
        (["--train-on", "vibes"], "train_on must be one of answers, last, all"),
        (["--config", "{tmp}/none.yaml"], "none.yaml cannot be read"),
        (["--config", "{tmp}/wrong.yaml"], "unknown option 'ranks'; did you mean rank?"),
        (["--resume", "--rank", "3"], "leave out --model, --data"),
        (["--steps", "many"], "valid integer"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    extra: list[str], message: str, base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "wrong.yaml").write_text("ranks: 3\n")
    assert run(base + [word.replace("{tmp}", str(tmp_path)) for word in extra]) == 2
    error = capsys.readouterr().err
    assert message.replace("{tmp}", str(tmp_path)) in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*base, "--device", "cuda"]) == 2
    assert "this machine has none" in capsys.readouterr().err


def test_a_run_directory_in_use(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    assert run(base) == 2
    assert run([*base, "--force"]) == 2
    assert "replaces only runs of lorate" in capsys.readouterr().err
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_reports_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name)
    assert run(["report", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(tmp_path / "both.html")]) == 0
    assert run(["report", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_rules_and_env(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in RULES)
    assert run(["env"]) == 0
    assert torch.__version__.split("+")[0] in capsys.readouterr().out
    assert run(["--version"]) == 0


COMMANDS = [*PLACES, "alpha law", "alpha calibrate", "attention", "reproduce"]
COMMANDS += [f"attention {name}" for name in ("predict", "simulate", "compare")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    _, _, shown = capsys.readouterr().out.partition("Example")
    assert f"lorate {command}" in shown


@pytest.mark.slow
def test_ctrl_c_in_the_terminal(base: list[str], tmp_path: Path) -> None:
    def command(words: list[str]) -> list[str]:
        return [sys.executable, "-c", f"from lorate.cli.app import run; raise SystemExit(run({words!r}))"]

    long = [*base, "--steps", "400", "--save-every", "400"]
    process = subprocess.Popen(command(long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while len(read_jsonl(metrics).records) < 5 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "--resume" in error
    done = len(read_jsonl(metrics).records)
    assert 5 <= done < 400
    assert run(["train", "--output", str(tmp_path / "run"), "--resume", "--steps", str(done + 2)]) == 0
    whole = [*base[:5], "--output", str(tmp_path / "whole"), *base[7:], "--save-every", "400"]
    assert run([*whole, "--steps", str(done + 2), "--eval-every", "100"]) == 0
    one, two = ([r | OWN for r in read_jsonl(tmp_path / n / "metrics.jsonl").records] for n in ("run", "whole"))
    assert one == two


def test_what_a_notebook_sets_for_its_own_figures_is_nothing_to_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(sys, "argv", ["lorate", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert os.environ["MPLBACKEND"] == "agg"


def test_ctrl_c_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorate.report.write_report", press)
    assert run(["report", "somewhere"]) == 130
    assert capsys.readouterr().err == "lorate: interrupted\n"
    monkeypatch.setattr("lorate.calibration.calibrate", press)
    assert run(["alpha", "calibrate", "--quick"]) == 130
    assert capsys.readouterr().err == "lorate: interrupted; finished runs are kept, the same command continues.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_is_full_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(["rules"]) == 1
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert capsys.readouterr().err == "lorate: standard output: No space left on device.\n"


def test_an_error_of_the_system_without_a_name_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lorate.report.write_report", fails)
    assert run(["report", "somewhere"]) == 1
    assert capsys.readouterr().err == "lorate: No space left on device.\n"


def test_an_error_of_the_system_without_a_number_is_said_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError("the archive is truncated")

    monkeypatch.setattr("lorate.report.write_report", fails)
    assert run(["report", "somewhere"]) == 1
    assert capsys.readouterr().err == "lorate: the archive is truncated\n"


def test_a_single_held_out_example_has_no_standard_error(
    base: list[str], chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats.write_text("\n".join(chats.read_text().splitlines()[:4]))
    assert run(base) == 0
    said = capsys.readouterr()
    assert "of a single example, so without a standard error)" in said.out
    assert "nan" not in said.out + said.err + (tmp_path / "run" / "adapter" / "README.md").read_text()
