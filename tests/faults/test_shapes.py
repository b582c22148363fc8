"""Valid JSON of another shape: every entry of every file, replaced by every kind of value."""

import json
from pathlib import Path
from typing import Any

import pytest
from fault_cases import sample
from fault_outcome import Place, judged, resumed, said_in_one_sentence

from fuzz_box import say
from lorate.report import page

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

VALUES: dict[str, Any] = {
    "null": None, "true": True, "zero": 0, "minus one": -1, "half": 0.5, "huge": 10**400, "large": 1e308,
    "tiny": 5e-324,
    "NaN": float("nan"), "infinity": float("inf"), "minus infinity": float("-inf"), "text": "x", "no text": "",
    "digits": "7", "control characters": "\x1b[2J\0\ud800", "a list": [], "a list of lists": [[1], None, "x"],
    "a map": {}, "a map of maps": {"x": {"y": [1]}}, "left out": ...,
}  # fmt: skip
IN_RUN = (
    *("lorate", "format", "command", "status", "started", "finished", "seconds", "versions", "device", "processes"),
    *("config", "config.rank", "config.alpha", "config.steps", "config.lr", "config.targets", "config.rule"),
    *("model", "model.name", "data", "data.name", "data.fingerprint", "data.train", "rule", "rule.name", "rule.lr"),
    *("plan", "adapters", "result", "resumed", "error"),
)
IN_RECORDS = (
    *("step", "loss", "eta", "lr", "stacked_norm", "a_norm", "b_norm", "grad_norm", "scaled_grad_norm", "sum_eta"),
    *("samples", "tokens", "seconds", "skipped", "alarms", "average_slope", "smoothness", "guarantee"),
)
IN_OTHERS = {
    "before.json": ("scores", "metric", "samples", "sha256"),
    "setting.json": ("rule", "full_batch", "lower_bound", "smoothness", "precision", "per_layer"),
    "checkpoints/checkpoint-6/manifest.json": ("format", "files", "records", "sha256"),
    "checkpoints/checkpoint-6/trainer_state.json": ("global_step", "epoch", "log_history", "max_steps", "best_metric"),
}
LINES = {
    "metrics.jsonl": IN_RECORDS,
    "eval.jsonl": ("step", "eval_loss", "eval_loss_se"),
    "layers.jsonl": ("step", "a_norm", "b_norm", "grad_norm", "names", "scaling", "signal", "drift", "window_start"),
}


def replaced(content: dict[str, Any], entry: str, value: Any) -> dict[str, Any]:
    """The content with one entry, perhaps of a part, replaced or left out."""
    name, _, rest = entry.partition(".")
    inner = replaced(content[name], rest, value) if rest else value
    return {key: old for key, old in content.items() if key != name} | ({} if inner is ... else {name: inner})


def put(file: Path, entry: str, value: Any, line: int | None = None) -> None:
    """Replace an entry of a JSON file, or of a line of one."""
    if line is None:
        file.write_text(json.dumps(replaced(json.loads(file.read_text()), entry, value)))
        return
    lines = file.read_text().splitlines()
    lines[line] = json.dumps(replaced(json.loads(lines[line]), entry, value))
    file.write_text("\n".join(lines) + "\n")


RUN_CASES = [("run.json", entry, value, None) for entry in IN_RUN for value in VALUES]
OTHER_CASES = [(file, entry, value, None) for file, names in IN_OTHERS.items() for entry in names for value in VALUES]
LINE_CASES = [(file, entry, value, 1) for file, names in LINES.items() for entry in names for value in VALUES]
ALARMS = {
    "numbers": [1], "a map": [{}], "a list as kind": [{"kind": []}], "null": [None], "no message": [{"kind": "x"}],
    "two kinds": [{"kind": "x", "message": 1, "remedy": None}, {"kind": {"x": 1}}],
}  # fmt: skip


@pytest.mark.fault("JSON of another shape, resumed")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("file", "entry", "value", "line"), sample(RUN_CASES + OTHER_CASES + LINE_CASES, 77, 10))
def test_resume_meets_any_shape(
    file: str, entry: str, value: str, line: int | None, runs: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, runs / "cut")
    put(place.run / file, entry, VALUES[value], line)
    judged(resumed(place), place.run, runs / "whole")


@pytest.mark.fault("JSON of another shape, resumed")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("alarms", sample([(kind,) for kind in ALARMS], 3))
def test_resume_meets_alarms_of_any_shape(alarms: str, runs: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, runs / "cut")
    put(place.run / "metrics.jsonl", "alarms", ALARMS[alarms], 1)
    judged(resumed(place), place.run, runs / "whole")
    assert say(["report", str(place.run)]).code == 0


@pytest.mark.fault("JSON of another shape, shown")
@pytest.mark.parametrize("command", ["report", "certify"])
@pytest.mark.parametrize(("file", "entry", "value", "line"), sample(RUN_CASES + LINE_CASES, 80, 26))
def test_the_report_and_the_certificate_meet_any_shape(
    file: str, entry: str, value: str, line: int | None, command: str, runs: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if file == "run.json":  # which changes no figure
        monkeypatch.setattr(page, "inline_svg", lambda *_: "<svg></svg>")
    place = Place(tmp_path, runs / "cut")
    put(place.run / file, entry, VALUES[value], line)
    said = say([command, str(place.run)])
    if said.code and not (command == "certify" and said.out.strip()):
        said_in_one_sentence(said)
    elif command == "report":
        shown = (place.run / "report.html").read_text(encoding="utf-8")
        assert not any(ord(letter) < 32 and letter not in "\n\t\r" for letter in shown)
