"""The user's own command at every alarm: what it gets, and that no trouble with it touches the run."""

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.monitor import Alarm
from lorate.training import TrainConfig, alarm_command, train
from lorate.training.alarm_command import Alarms
from lorate.training.early import check_command
from lorate.training.listener import Listener
from training_runs import Notices, evaluations, metrics

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

ALARM = Alarm("stalled", "Steps of «lm; $(touch hacked)»\n\0 are short.", "Raise lr.")


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def heard(folder: Path) -> str:
    """A command that keeps what it gets."""
    code = f"import os, sys; open({str(folder / 'heard')!r}, 'a').write(sys.stdin.read() + os.environ['LORATE_ALARM'])"
    return python(code)


def test_a_command_gets_the_alarm_as_json_and_as_text(tmp_path: Path) -> None:
    Alarms(heard(tmp_path), tmp_path / "run", Listener())(7, ALARM)
    line, text = (tmp_path / "heard").read_text().split("\n", 1)
    assert json.loads(line) == {
        "run": str(tmp_path / "run"), "step": 7, "kind": "stalled", "message": ALARM.message, "remedy": "Raise lr.",
    }  # fmt: skip
    assert text == "Steps of «lm; $(touch hacked)»\n are short. Raise lr."


def test_no_text_of_an_alarm_is_obeyed_by_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Alarms("sh -c 'echo \"$LORATE_ALARM\" > text'", tmp_path, Listener())(1, ALARM)
    assert (tmp_path / "text").read_text().startswith("Steps of") and not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (python("import sys; sys.exit('no network')"), "exited with 1: no network"),
        ("false", "exited with 1: it said nothing"),
        (python("import os; os.kill(os.getpid(), 9)"), "exited with -9"),
        ("/", "did not start (Permission denied)"),
        ("cat", ""),
        ("true", ""),  # which does not read its input
        (python("print('x' * 10**6)"), ""),  # more than a pipe holds
    ],
)
def test_a_command_that_fails_is_a_notice(command: str, said: str, tmp_path: Path) -> None:
    listener = Notices()
    Alarms(command, tmp_path, listener)(1, ALARM)
    assert len(listener.notices) == bool(said) and all(said in notice for notice in listener.notices)
    assert all("the alarm may have gone unseen" in notice for notice in listener.notices)


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm_command, "PATIENCE", 1.0)
    listener, file = Notices(), tmp_path / "pid"
    began = time.monotonic()
    Alarms(f"sh -c 'sleep 60 & echo $! > {file}; wait'", tmp_path, listener)(1, ALARM)
    assert "was ended after 1 s" in listener.notices[0] and time.monotonic() - began < 20
    stat, deadline = Path(f"/proc/{file.read_text().strip()}/stat"), time.monotonic() + 10
    while stat.exists() and stat.read_text().split()[2] != "Z":  # a signal takes its time on a busy machine
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)


@pytest.mark.parametrize("command", ["no-such-program --loud", "say 'hello", "", " ", "/etc"])
def test_a_command_that_cannot_run_is_refused_before_anything_is_written(
    command: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(LorateError, match="on_alarm_run"):
        check_command("on_alarm_run", command)
    with pytest.raises(LorateError, match="on_alarm_run"):
        train(TrainConfig(**options, on_alarm_run=command), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("works", [True, False])
def test_every_alarm_of_a_run_runs_it_once(options: dict[str, Any], tmp_path: Path, works: bool) -> None:
    wild = {**options, "rule": "constant", "lr": 1e3, "dropout": 0.0, "steps": 60}
    listener = Notices()
    command = heard(tmp_path) if works else "false"
    outcome = train(TrainConfig(**wild, on_alarm_run=command), tmp_path / "run", listener=listener)
    assert outcome.status == "finished" and outcome.steps == 60
    records = [*metrics(tmp_path / "run"), *evaluations(tmp_path / "run")]
    raised = [(record["step"], alarm["kind"]) for record in records for alarm in record.get("alarms") or []]
    assert raised
    if not works:
        assert sum("--on-alarm-run 'false' exited with 1" in notice for notice in listener.notices) == len(raised)
        return
    got = [json.JSONDecoder().raw_decode(part)[0] for part in _parts((tmp_path / "heard").read_text())]
    assert sorted((one["step"], one["kind"]) for one in got) == sorted(raised)
    assert {one["run"] for one in got} == {str(tmp_path / "run")} and "LORATE_ALARM" not in os.environ


def _parts(text: str) -> list[str]:
    return ['{"run"' + part for part in text.split('{"run"')[1:]]
