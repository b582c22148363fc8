"""``lorate attention`` and ``lorate reproduce``: numbers, files, mistakes, exit codes."""

import json
import warnings
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import lorate_papers.attention
from lorate.cli.app import run
from lorate_papers.attention import NotConverged, ReplicaInstabilityWarning
from lorate_papers.cli.reproduce import reproduce
from lorate_papers.experiments import EXPERIMENTS, load_experiment, taking
from papers.experiments.toy import EXPERIMENT

ROW = ["attention", "predict", "--alpha", "0.1", "--lambda", "0.01"]
SMALL = ["--alpha", "0.1", "--lambda", "0.1", "--dimension", "12", "--seeds", "2"]


def test_predict_prints_the_reference_row(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--tokens", "3", "--kappa0", "1", "--kappa", "1", "--noise", "0.5"]
    assert run([*ROW, *settings]) == 0
    printed = capsys.readouterr().out
    row = {
        "Q": "2.222975", "M": "1.925325", "V": "4.355446", "tau": "0.720142", "Lambda": "0.110091",
        "active": "0.716540", "Delta_eff": "0.622326", "Delta_eff^(1)": "0.072207", "Delta_eff(beta*)": "0.582471",
        "E_exc": "0.496434",
    }  # fmt: skip
    lines = [line.replace("│", " ").split() for line in printed.splitlines()]
    found = {line[0]: line[1] for line in lines if len(line) > 1}
    assert {name: found.get(name) for name in row} == row


def test_predict_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    tuned = ["--finetune-alpha", "3", "--finetune-lambda", "0.5", "--points", "512", "--json"]
    assert run([*ROW, *tuned]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["overlap"] == pytest.approx(0.98917, abs=2e-3) and row["stable"] is True


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--alpha", "-1", "--lambda", "1"], "alpha must be above 0"),
        (["--alpha", "1", "--lambda", "1", "--tokens", "1"], "tokens must be"),
        (["--alpha", "1", "--lambda", "1", "--finetune-alpha", "3"], "--finetune-lambda belong together"),
        (["--alpha", "1", "--lambda", "1", "--beta", "much"], "--beta must be a number or optimal"),
        (["--alpha", "1", "--lambda", "0.001", "--kappa", "0.1"], "kappa must be at least"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attention", "predict", *arguments]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--over", "alpha"], "--over and --values belong together"),
        (["--over", "kappa", "--values", "1,2"], "--over must be one of"),
        (["--over", "alpha", "--values", "1"], "at least two different"),
        (["--over", "alpha", "--values", "1,x"], "separated by commas"),
        (["--over", "finetune-alpha", "--values", "1,2"], "needs --finetune-alpha"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--device", "cuda:77"], "'cuda:77' was requested, but this machine has"),
        (["--device", "meta"], "'meta' was requested, but this machine has none"),
    ],
)
def test_mistakes_of_compare(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attention", "compare", *SMALL, *arguments]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_no_convergence_tells_the_last_state(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise NotConverged("no fixed point", {"q": 0.25}, 0.125)

    monkeypatch.setattr(lorate_papers.attention, "predict", fail)
    assert run(ROW) == 1
    assert "no fixed point (last state: q=0.25; residual 0.12)" in capsys.readouterr().err


def test_broken_replica_symmetry_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = lorate_papers.attention.predict

    def unstable(**arguments: Any) -> Any:
        warnings.warn("replica symmetry is broken", ReplicaInstabilityWarning, stacklevel=2)
        return true(**arguments)

    monkeypatch.setattr(lorate_papers.attention, "predict", unstable)
    assert run(ROW) == 0
    captured = capsys.readouterr()
    assert "Warning: replica symmetry is broken" in captured.err and "2.222975" in captured.out


def test_simulate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attention", "simulate", *SMALL, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {"Q", "M", "Q0", "E_pretrained"} <= set(values) and len(values["Q"]) == 2
    assert run(["attention", "simulate", *SMALL]) == 0
    assert "standard error" in capsys.readouterr().out


def test_compare_draws_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve = ["--over", "lambda", "--values", "0.05,0.5", "--output", str(tmp_path / "run"), "--json"]
    assert run(["attention", "compare", *SMALL, *curve]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["at"], row["name"]) for row in rows][:2] == [(0.05, "Q"), (0.05, "M")] and len(rows) == 8
    line = (tmp_path / "run" / "theory.jsonl").read_text().splitlines()
    assert json.loads(line[0])["Q"] == pytest.approx(rows[0]["theory"])
    assert (tmp_path / "run" / "figures" / "comparison.svg").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["over"] == "lambda"
    assert run(["attention", "compare", *SMALL, *curve]) == 2
    assert "never overwritten" in " ".join(capsys.readouterr().err.split())


def test_compare_at_one_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attention", "compare", *SMALL]) == 0
    assert "1.267687" in capsys.readouterr().out


def test_reproduce(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "toy", "papers.experiments.toy:EXPERIMENT")
    monkeypatch.setattr(EXPERIMENT, "log", str(tmp_path / "log"), raising=False)
    command = ["reproduce", "toy", "--quick", "--jobs", "1", "--output", str(tmp_path / "run")]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "holds" in printed and "not testable" in printed and "report.html" in printed and "3 runs" in printed
    assert run(command) == 0
    assert "0 runs" in capsys.readouterr().out
    assert run([*command, "--seed", "1"]) == 2
    assert "holds another run" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("typed", ["recipe_minilm", "Recipe-MiniLM", "recipe-minlm"])
def test_reproduce_knows_what_was_meant(capsys: pytest.CaptureFixture[str], typed: str) -> None:
    assert run(["reproduce", typed]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"There is no experiment '{typed}'; did you mean recipe-minilm? There are: alpha, " in error


@pytest.mark.parametrize("command", [["reproduce", "logistic"], ["alpha", "calibrate"]])
def test_an_empty_output_is_not_this_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    for place in ("lorate.calibration.calibrate", "lorate_papers.experiments.runner.reproduce"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("it began"))
    monkeypatch.chdir(tmp_path)
    assert run([*command, "-o", ""]) == 2
    assert "is empty: name a directory" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["data", "model"])
def test_the_help_names_the_experiments_that_take_own_data(word: str) -> None:
    assert taking(word) == [name for name in EXPERIMENTS if word in load_experiment(name).takes]
    option = get_type_hints(reproduce, include_extras=True)[word].__metadata__[0]
    assert option.help.endswith(f": {', '.join(taking(word))}.")


def test_reproduce_knows_its_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "nothing"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "There is no experiment 'nothing'; there are:" in error and "attention" in error
