"""Every experiment has a sound plan, and its quick form runs through the command line and leaves what is promised."""

import json
import re
from pathlib import Path

import pytest
import verdicts
from typer.testing import CliRunner

from lorate.cli.app import app
from lorate.runs.strict_json import encode
from lorate_papers.experiments import EXPERIMENTS, Options, load_experiment
from papers.experiments.toy import EXPERIMENT as TOY

PAPERS = (Path(__file__).parents[3] / "docs" / "papers.md").read_text(encoding="utf-8")


def run_twice_and_check(name: str, output: Path) -> None:
    command = ["reproduce", name, "--quick", "--jobs", "1", "--output", str(output)]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    claims = json.loads((output / "claims.json").read_text())
    assert claims and all(set(claim) == {"claim", "value", "verdict", "protocol"} for claim in claims)
    assert {claim["verdict"] for claim in claims} <= {"holds", "does not hold", "not testable here"}
    assert all(claim["claim"] and claim["value"] and claim["protocol"] for claim in claims)
    for words in re.findall(rf"<!-- verdict: {name}: (.+?) -->", PAPERS):
        assert verdicts.matching(claims, words), f"docs/papers.md asks for a claim with {words!r}"
    figures = sorted(file.name for file in (output / "figures").iterdir() if file.stat().st_size > 3000)
    names = [Path(file).stem for file in figures[::2]]
    assert names and figures == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    report = (output / "report.html").read_text()
    assert len(re.findall(r'<svg[^>]* role="img"', report)) == len(names)
    assert all(claim["verdict"] in report for claim in claims)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "0 runs in" in again.output, "finished runs are not repeated"


def test_the_quick_form_of_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "toy", "papers.experiments.toy:EXPERIMENT")
    monkeypatch.setattr(TOY, "log", str(tmp_path / "log"), raising=False)
    run_twice_and_check("toy", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_quick_form(name: str, tmp_path: Path) -> None:
    run_twice_and_check(name, tmp_path / "run")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_plan(name: str) -> None:
    experiment = load_experiment(name)
    for options in (Options(quick=True), Options(seed=1)):
        runs = experiment.runs(options)
        names = [run.name for run in runs]
        assert names and len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9=.,-]+", one) for one in names)
        assert encode([run.arguments for run in runs]) == encode([run.arguments for run in experiment.runs(options)])
        assert all(run.function.__module__.startswith("lorate_papers.") for run in runs), (
            "a worker process has to find it"
        )
    assert experiment.protocols.get(""), "what differs from the paper in all claims that are not named"
    assert experiment.title and experiment.summary.endswith(".") and set(experiment.takes) <= {"data", "model"}
