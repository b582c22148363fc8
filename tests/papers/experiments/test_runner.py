"""The machinery of experiments: resumed, never overwritten, everything written."""

import json
import signal
from pathlib import Path

import pytest
import torch

import lorate
from lorate.cli.app import run
from lorate.errors import LorateError
from lorate_papers.experiments import EXPERIMENTS, Options, load_experiment
from lorate_papers.experiments.inputs import fingerprints
from lorate_papers.experiments.plots import COLOURS
from lorate_papers.experiments.runner import reproduce
from papers.experiments.toy import EXPERIMENT


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(EXPERIMENTS, "toy", "papers.experiments.toy:EXPERIMENT")
    monkeypatch.setattr(EXPERIMENT, "log", str(tmp_path / "log"), raising=False)
    return tmp_path / "log"


def test_a_protocol_says_first_what_this_run_is(tmp_path: Path) -> None:
    claims = reproduce("toy", tmp_path / "run", Options(quick=True, seed=3), jobs=1).claims
    assert [claim.protocol for claim in claims] == [
        "This run: the short form. The full run: Own <numbers>.",
        "This run: the short form. The full run: Not in the paper.",
    ]


def test_everything_is_written(tmp_path: Path) -> None:
    outcome = reproduce("toy", tmp_path / "run", jobs=1)
    claims = json.loads((tmp_path / "run" / "claims.json").read_text())
    assert claims == [
        {"claim": "The sum is 14.", "value": "14", "verdict": "holds", "protocol": "Own <numbers>."},
        {"claim": "Unknown.", "value": "–", "verdict": "not testable here", "protocol": "Not in the paper."},
    ]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "finished" and info["config"] == {"experiment": "toy", "quick": False, "seed": 0}
    assert info["result"] == {"runs": 3, "holds": 1, "does not hold": 0, "not testable here": 1}
    records = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert [record["result"]["square"] for record in records] == [1, 4, 9]
    assert (tmp_path / "run" / "figures" / "squares.svg").exists()
    assert (tmp_path / "run" / "figures" / "squares.png").read_bytes().startswith(b"\x89PNG")
    page = outcome.folder.report.read_text()
    assert "<td>Own &lt;numbers&gt;.</td>" in page
    assert "Squares &lt;of&gt; numbers" in page and "The sum is 14." in page and 'role="img"' in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_one_thread_computes_whatever_the_machine_has(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        outcome = reproduce("toy", tmp_path / "run", jobs=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    lines = (outcome.folder.path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["result"]["threads"] for line in lines] == [1, 1, 1]


def test_finished_runs_are_not_repeated(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 13), raising=False)
    with pytest.raises(KeyboardInterrupt):
        reproduce("toy", tmp_path / "run", jobs=1)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert log.read_text().split() == ["1", "2", "13"]
    monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 3), raising=False)
    outcome = reproduce("toy", tmp_path / "run", jobs=1)
    assert log.read_text().split() == ["1", "2", "13", "3"] and outcome.repeated == 1
    assert outcome.claims[0].verdict == "holds"


@pytest.mark.parametrize(("number", "code"), [(13, 130), (15, 143)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_command_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody heard it"))
    monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, number), raising=False)
    assert run(["reproduce", "toy", "-j", "1", "-o", str(tmp_path / "run")]) == code
    signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "lorate: interrupted; 2 of 3 runs are kept, the same command continues."
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_result_of_other_arguments_or_a_damaged_one_is_not_trusted(tmp_path: Path, log: Path) -> None:
    reproduce("toy", tmp_path / "run", jobs=1)
    file = tmp_path / "run" / "finished" / "square-1.json"
    file.write_text(file.read_text().replace('"number": 1', '"number": 7'))
    (tmp_path / "run" / "finished" / "square-2.json").write_text("{")
    assert reproduce("toy", tmp_path / "run", jobs=1).repeated == 2
    assert log.read_text().split() == ["1", "2", "3", "1", "2"]


def test_parallel_gives_the_same(tmp_path: Path) -> None:
    one = reproduce("toy", tmp_path / "one", jobs=1)
    seen: list[tuple[int, int]] = []
    two = reproduce("toy", tmp_path / "two", jobs=2, progress=lambda done, total, _: seen.append((done, total)))
    assert one.claims == two.claims and seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_directory_with_nothing_but_a_failure_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(LorateError, match="14 is not squared"):
        patch.setattr(EXPERIMENT, "numbers", (14,), raising=False)
        reproduce("toy", place, Options(seed=0, quick=True), jobs=1)
    assert json.loads((place / "run.json").read_text())["status"] == "failed"
    reproduce("toy", place, jobs=1)
    assert json.loads((place / "run.json").read_text())["status"] == "finished"


def test_a_failure_beside_other_files_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(LorateError):
        patch.setattr(EXPERIMENT, "numbers", (14,), raising=False)
        reproduce("toy", place, Options(quick=True), jobs=1)
    (place / "adapter.safetensors").write_text("")
    with pytest.raises(LorateError, match="holds another run"):
        reproduce("toy", place, jobs=1)


def test_an_experiment_without_its_report_has_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "run"
    reproduce("toy", place, jobs=1)
    (place / "report.html").unlink()
    (place / "report.html").mkdir()
    assert run(["reproduce", "toy", "-j", "1", "-o", str(place)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"lorate: {place / 'report.html'}: ") and said.endswith("then the same command continues.")
    assert json.loads((place / "run.json").read_text())["status"] == "failed"
    (place / "report.html").rmdir()
    reproduce("toy", place, jobs=1)
    assert json.loads((place / "run.json").read_text())["status"] == "finished"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    reproduce("toy", tmp_path / "run", jobs=1)
    with pytest.raises(LorateError, match="holds another run"):
        reproduce("toy", tmp_path / "run", Options(seed=1), jobs=1)
    info = tmp_path / "run" / "run.json"
    info.write_text(info.read_text().replace(lorate.__version__, "0.0.0"))
    with pytest.raises(LorateError, match=r"started with lorate 0\.0\.0"):
        reproduce("toy", tmp_path / "run", jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(LorateError, match="no experiment"):
        reproduce("toy", tmp_path / "mine", jobs=1)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_the_command_line_names_the_folder_after_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "where").mkdir(parents=True)
    (tmp_path / "some" / "where" / "my file.csv").write_text("")
    assert run(["reproduce", "toy", "--quick", "--seed", "3", "--data", "some/where/my file.csv", "--jobs", "1"]) == 0
    info = json.loads((tmp_path / "runs" / "toy-my-file-csv-quick-seed3" / "run.json").read_text())
    assert info["command"] == "lorate reproduce toy --quick --seed 3 --data 'some/where/my file.csv'"
    assert run(["reproduce", "toy", "--model", "mine"]) == 2
    assert "has no other model" in capsys.readouterr().err


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(LorateError, match="There is no experiment 'nothing'"):
        load_experiment("nothing")
    with pytest.raises(LorateError, match="jobs must be at least 1"):
        reproduce("toy", tmp_path / "run", jobs=0)
    for seed in (-1, 10**20):
        with pytest.raises(LorateError, match=f"seed must lie between 0 and 4,000,000, got {seed}"):
            reproduce("toy", tmp_path / "run", Options(seed=seed))
    assert not (tmp_path / "run").exists()


def test_colours_of_curves_stand_out_on_both_papers() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in COLOURS:
        for paper in ("#ffffff", "#12161c"):
            light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (colour, paper)


def test_own_data_is_part_of_the_run_and_refused_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my file.csv").write_text("")
    reproduce("toy", tmp_path / "run", Options(quick=True, data="my file.csv"), jobs=1)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["config"] == {"experiment": "toy", "quick": True, "seed": 0, "data": "my file.csv"}
    assert info["command"] == "lorate reproduce toy --quick --data 'my file.csv'"
    with pytest.raises(LorateError, match="holds another run"):
        reproduce("toy", tmp_path / "run", Options(quick=True), jobs=1)
    with pytest.raises(LorateError, match="'toy' has no other model: leave --model out"):
        reproduce("toy", tmp_path / "other", Options(model="mine"), jobs=1)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_own_data_that_has_changed_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path, kind: str
) -> None:
    data = tmp_path / "own"
    file = data if kind == "file" else data / "deep" / "one.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("first")
    place, options = tmp_path / "run", Options(data=str(data))
    monkeypatch.setattr(EXPERIMENT, "numbers", (13,), raising=False)
    with pytest.raises(KeyboardInterrupt):
        reproduce("toy", place, options, jobs=1)
    file.write_text("second")  # no run has read the first one to its end
    monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 13), raising=False)
    with pytest.raises(KeyboardInterrupt):
        reproduce("toy", place, options, jobs=1)
    monkeypatch.setattr(EXPERIMENT, "numbers", (1, 2, 3), raising=False)
    file.write_text("the third")
    with pytest.raises(LorateError, match=r"own has changed since the finished runs in .*run read it; bring back"):
        reproduce("toy", place, options, jobs=1)
    info = json.loads((place / "run.json").read_text())
    assert info["status"] == "interrupted" and info["inputs"].keys() == {"data"}
    del info["inputs"]  # as earlier versions wrote it
    (place / "run.json").write_text(json.dumps(info))
    assert reproduce("toy", place, options, jobs=1).repeated == 1
    assert reproduce("toy", place, options, jobs=1).repeated == 0 and log.read_text().split()[-1] == "3"


def test_own_data_that_is_not_there_is_said_before_anything_is_written(tmp_path: Path) -> None:
    for data in ("/no/such", "nowhere.jsonl", "no/such/place", "lost.csv:train"):
        with pytest.raises(LorateError, match=f"No data at '{data}': no such file or folder"):
            reproduce("toy", tmp_path / "run", Options(data=data), jobs=1)
    with pytest.raises(LorateError, match="--data is empty"):
        reproduce("toy", tmp_path / "run", Options(data=""), jobs=1)
    assert not (tmp_path / "run").exists()
    for data in ("owner/name", "cifar10", "owner/name:train"):
        assert fingerprints({"data": data}) == {}


def test_another_torch_is_said_and_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "toy", "-j", "1", "-o", str(tmp_path / "run")]
    assert run(words) == 0 and run(words) == 0 and "was begun with" not in capsys.readouterr().err
    file = tmp_path / "run" / "run.json"
    info = json.loads(file.read_text())
    now, info["versions"]["torch"] = info["versions"]["torch"], "1.0"
    file.write_text(json.dumps(info))
    for _ in range(2):  # noted once
        assert run(words) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "was begun" in line]
    assert said == [f"lorate: {tmp_path / 'run'} was begun with torch 1.0; what is done now uses torch {now}."]
    info = json.loads(file.read_text())
    assert info["versions"]["torch"] == now and [one["torch"] for one in info["earlier_versions"]] == ["1.0"]
