"""How several processes are started and come to a common end, with small programs in the place of lorate."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lorate import ranks
from lorate.cli import launch as module
from lorate.cli.launch import OTHER_FAILED, is_first, launch
from lorate.cli.train import _finish

PYTHON = sys.executable
FORGET_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Launch one Python program a process; the place of ``python -m lorate`` takes one that picks by rank."""

    def launched(*programs: str) -> int:
        for rank, program in enumerate(programs):
            (tmp_path / f"{rank}.py").write_text(program)
        chooser = tmp_path / "python"
        chooser.write_text(f'#!/bin/sh\nexec {PYTHON} {tmp_path}/$RANK.py "$@"\n')
        chooser.chmod(0o700)
        monkeypatch.setattr(module.sys, "executable", str(chooser))
        return launch(len(programs), ["train", "--steps", "3"])

    monkeypatch.setattr(module, "PATIENCE", 0.3)
    return launched


def test_all_get_the_same_words_and_a_place_of_their_own(start: Any, tmp_path: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    note = f"import os, sys; open(f'{tmp_path}/' + os.environ['RANK'], 'w').write(" + (
        f"' '.join([*sys.argv[1:], *(os.environ[name] for name in {names})]))"
    )
    assert start(note, note) == 0
    first, second = ((tmp_path / str(rank)).read_text().split() for rank in (0, 1))
    assert first[:4] == second[:4] == ["-m", "lorate", "train", "--steps"]
    assert first[5:-1] == ["0", "0", "2", "2", "127.0.0.1"] and second[5:-1] == ["1", "1", "2", "2", "127.0.0.1"]
    assert first[-1] == second[-1]


def test_another_process_is_heard_only_if_it_is_the_cause(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    fails = "import sys; print('no such file', file=sys.stderr); sys.exit(2)"
    assert start(f"import sys, time; time.sleep(0.1); sys.exit({OTHER_FAILED})", fails) == 2
    assert "Process 1 failed:\nno such file" in capfd.readouterr().err
    assert start(fails, f"print('me too'); raise SystemExit({OTHER_FAILED})") == 2
    assert capfd.readouterr().err == "no such file\n"
    assert start("print('done')", "print('done too')") == 0
    assert capfd.readouterr().out == "done\n"


def test_who_does_not_end_is_asked_to_and_then_made_to(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert start("import time; time.sleep(60)", "raise SystemExit(2)") == 2
    assert start(f"{FORGET_SIGTERM}; import time; time.sleep(60)", "raise SystemExit(2)") == 2
    assert time.monotonic() - began < 30
    assert "killed" not in capfd.readouterr().err


def test_a_process_has_time_to_end_by_itself(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 10.0)
    slow = f"import time; time.sleep(0.7); open('{tmp_path}/saved', 'w').close()"
    assert start(slow, "raise SystemExit(2)") == 2
    assert (tmp_path / "saved").exists()


def test_a_killed_process_is_named(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert start("pass", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == 137
    assert "process 1 was killed by signal 9" in capfd.readouterr().err


def test_ctrl_c_reaches_every_process_once(start: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wait = (
        "import os, signal, time\n"
        f"def note(*_): open('{tmp_path}/heard' + os.environ['RANK'], 'a').write('x'); raise SystemExit(130)\n"
        "signal.signal(signal.SIGINT, note)\n"
        "if os.environ['RANK'] == '0': time.sleep(1); os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    assert start(wait, wait) == 130
    assert [(tmp_path / f"heard{rank}").read_text() for rank in (0, 1)] == ["x", "x"]
    assert "killed" not in capfd.readouterr().err


def test_the_terminal_itself_sends_no_ctrl_c(start: Any) -> None:
    """It goes to all processes of a session, and would come a second time."""
    leads = "import os; raise SystemExit(os.getsid(0) != os.getpid())"
    assert start(leads, leads) == 0


def test_the_first_process_has_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_first()
    monkeypatch.setenv("RANK", "1")
    assert not is_first()


@pytest.mark.parametrize("status", ["finished", "stopped", "interrupted"])
def test_only_the_main_process_tells_how_a_run_ended(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other exit code of a process that is done would end the main one, which still writes adapter and report."""
    monkeypatch.setattr(ranks, "is_main", lambda: False)
    assert _finish(SimpleNamespace(run=None, status=status)) == 0


def test_leaving_does_not_wait_for_threads_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    program = (
        "import atexit, threading, time; from lorate.cli.launch import leave; "
        f"atexit.register(lambda: open('{tmp_path}/last', 'w').close()); "
        "threading.Thread(target=time.sleep, args=(60,)).start(); print('done'); leave(4)"
    )
    began = time.monotonic()
    ended = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True)
    assert time.monotonic() - began < 30
    assert (ended.returncode, ended.stdout) == (4, "done\n")
    assert (tmp_path / "last").exists()


FOLLOW = "from lorate.cli import launch\nlaunch.FAREWELL = 0.5\nlaunch.follow_launcher()\n"
NOTE = "import os, signal, sys, time\nopen(sys.argv[0] + '.pid', 'w').write(str(os.getpid()))\n"


def _alive(tmp_path: Path, count: int = 2) -> list[psutil.Process]:
    """The processes that have begun and still run."""
    notes = [tmp_path / f"{rank}.py.pid" for rank in range(count)]
    pids = [int(note.read_text()) for note in notes if note.exists() and note.read_text()]
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def _until(condition: Any, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


@pytest.mark.fault("the launcher is killed")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows hands no pipes on")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("deaf", [False, True], ids=["", "and one process hears nothing"])
def test_no_process_outlives_the_launcher(number: int, deaf: bool, tmp_path: Path) -> None:
    if deaf and number != signal.SIGKILL:
        pytest.skip("the launcher is there to end it")
    wait = f"{NOTE}{FOLLOW}time.sleep(100)\n"
    (tmp_path / "0.py").write_text(wait)
    (tmp_path / "1.py").write_text(f"{FORGET_SIGTERM}\n{wait}" if deaf else wait)
    chooser = tmp_path / "python"
    chooser.write_text(f'#!/bin/sh\nexec {PYTHON} {tmp_path}/$RANK.py "$@"\n')
    chooser.chmod(0o700)
    start = f"from lorate.cli import launch; launch.sys.executable = {str(chooser)!r}; launch.launch(2, [])"
    heard = "import signal; signal.signal(1, signal.SIG_DFL); signal.signal(2, signal.default_int_handler); "
    launcher = subprocess.Popen([PYTHON, "-c", heard + start], stderr=subprocess.DEVNULL)  # also below nohup
    try:
        assert _until(lambda: len(_alive(tmp_path)) == 2)
        time.sleep(0.5)
        launcher.send_signal(number)
        assert _until(lambda: not _alive(tmp_path))
        launcher.wait(20)
    finally:
        launcher.kill()
        for process in _alive(tmp_path):
            process.kill()


@pytest.mark.fault("a process hangs")
def test_a_process_that_the_others_gave_up_is_named_and_ended(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    gives_up = f"raise SystemExit({OTHER_FAILED})"
    assert start(gives_up, f"{FORGET_SIGTERM}; import time; time.sleep(100)") == 1
    assert capfd.readouterr().err == "lorate: process 1 did not answer the others and was ended\n"
    assert start("import time; time.sleep(100)", gives_up) == 1
    assert capfd.readouterr().err == "lorate: process 0 did not answer the others and was ended\n"


@pytest.mark.fault("a process raises")
def test_an_error_that_nobody_foresaw_is_shown_and_its_process_named(
    start: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(f"import time; time.sleep(0.5); raise SystemExit({OTHER_FAILED})", "raise KeyError('x')") == 1
    error = capfd.readouterr().err
    assert "Process 1 failed:\nTraceback" in error
    assert error.endswith("lorate: process 1 failed: KeyError: 'x'\n")
    assert start("raise KeyError('x')", f"raise SystemExit({OTHER_FAILED})") == 1
    assert capfd.readouterr().err.endswith("lorate: process 0 failed: its error is above\n")
