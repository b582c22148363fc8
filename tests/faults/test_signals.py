"""Each phase of a run, ended by each signal: a status that says so, and the same numbers once it has gone on."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_cases import sample
from fault_outcome import compared

from lorate.runs import RunDirectory
from lorate.training import (
    Listener,
    TrainConfig,
    checkpoints,
    ending,
    heldout,
    outputs,
    resume,
    train,
    untrained,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs the signals of POSIX"),
]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
PHASES = (
    "Reading the data", "Loading the model", "Tokenising", "Evaluating and sampling", "Training", "Saving",
)  # fmt: skip
CALLS = {
    "before.json": (untrained, "signed"),
    "the adapter": (outputs, "card_section"),
    "the manifest": (checkpoints, "seal"),
    "an old checkpoint": (checkpoints, "_delete"),
    "the report": (ending, "write_report"),
    "the samples": (ending, "write_json"),
    "run.json": (RunDirectory, "write_run"),
    "config.yaml": (RunDirectory, "write_config"),
    "the usage": (ending, "write_usage"),
    "the first evaluation": (heldout, "evaluate"),
}
MOMENTS = (
    *(("phase", phase, times) for phase in PHASES for times in (1, 2)),
    *(("step", str(step), times) for step in (1, 2, 5, 8) for times in (1, 2)),
    *(("call", name, 1) for name in CALLS),
)
CASES = [(*moment, name) for moment in MOMENTS for name in SIGNALS]


class Signals(Listener):
    """Sends a signal at a phase or a step, once or twice."""

    def __init__(self, kind: str, where: str, times: int, number: int) -> None:
        self._at, self._times, self._number = (kind, where), times, number

    def send(self) -> None:
        times, self._times = self._times, 0
        for _ in range(times):
            os.kill(os.getpid(), self._number)

    def phase(self, text: str) -> None:
        if self._at == ("phase", text):
            self.send()

    def step(self, record: Any, total: int) -> None:
        if self._at == ("step", str(record["step"])):
            self.send()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGHUP, _ended)
    yield
    for name, handler in zip(SIGNALS, before, strict=True):
        signal.signal(getattr(signal, name), handler)


class Ended(BaseException):
    """What ends the process where lorate holds no run yet."""


def _ended(*_: Any) -> None:
    raise Ended


@pytest.mark.fault("a signal in each phase")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "where", "times", "name"), sample(CASES, 7))
def test_a_signal_ends_the_run_and_it_goes_on_with_the_same_numbers(
    kind: str, where: str, times: int, name: str, alone: tuple[TrainConfig, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config, whole = alone
    run = tmp_path / "run"
    listener = Signals(kind, where, times, getattr(signal, name))
    if kind == "call":
        owner, function = CALLS[where]
        original = getattr(owner, function)

        def call(*args: Any, **options: Any) -> Any:
            listener.send()
            return original(*args, **options)

        monkeypatch.setattr(owner, function, call)
    try:
        status = train(config, run, listener=listener).status
    except (KeyboardInterrupt, Ended):
        status = "ended"
    if not (run / "run.json").exists():  # nothing was begun, so the same command begins
        assert status == "ended" and not list(run.glob("[!.]*"))
        shutil.rmtree(run, ignore_errors=True)
        train(config, run)
    else:
        said = json.loads((run / "run.json").read_text())["status"]
        begins = where in ("run.json", "config.yaml")  # no step can be lost yet
        assert said == ("interrupted" if status == "ended" else status) or (begins and said == "running")
        if status != "finished":
            if kind == "step" and times == 1:
                held = [checkpoint.step for checkpoint in checkpoints.checkpoints(run / "checkpoints")]
                assert status == "interrupted" and held[0] == int(where)
            resume(run)
    # an interrupted run evaluates and describes itself as the one that was left alone
    assert [what for what, same in compared(run, whole).items() if not same] == []
    assert not list(run.glob(".*.tmp")) and not (run / ".adapter.new").exists()


@pytest.mark.fault("a signal in each phase")
@pytest.mark.usefixtures("quick")
def test_nohup_stays_nohup(alone: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    config, _ = alone
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert train(config, tmp_path / "run", listener=Signals("step", "3", 2, signal.SIGHUP)).status == "finished"
