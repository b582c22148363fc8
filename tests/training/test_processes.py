"""``lorate train`` on two processes: the numbers of one, one voice, and a common end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lorate import ranks
from lorate.cli.app import run
from lorate.errors import LorateError, OtherProcessError
from lorate.jsonl import read_jsonl
from lorate.runs import RunDirectory
from lorate.training.evaluation import in_order
from lorate.training.processes import check_processes, meet, noticing_lost_processes, own_device, together
from training_runs import OWN

LORATE = [sys.executable, "-W", "ignore", "-m", "lorate"]
ACCELERATE = [
    *(sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch"),
    # for accelerate --cpu means one process
    *("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"),
    *("--dynamo_backend", "no", "-m", "lorate"),
]

LONG = ["--save-every", "10000", "--eval-every", "10000", "--dropout", "0.1", "--batch-size", "2"]


@pytest.fixture
def train(llama_dir: Path, chats: Path, tmp_path: Path) -> list[str]:
    """A run whose epochs end with a whole step, so that no record is seen twice: 72 records, 8 of them held out."""
    words = f"train --model {llama_dir} --data {chats} --rank 2 --alpha 4 --device cpu --max-length 16 --samples 1"
    return [*words.split(), "--eval-fraction", "0.11", "--seed", "3"]


def launched(words: list[str], launcher: list[str] = LORATE, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *words], capture_output=True, text=True, timeout=300, env=environment, **options)


def records(run_directory: Path) -> list[dict[str, Any]]:
    return read_jsonl(run_directory / "metrics.jsonl").records


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "count", "rule", "task"),
    [
        (ACCELERATE, [], ["--rule", "normalized", "--lr", "0.05"], []),
        (LORATE, ["--processes", "2"], ["--rule", "auto", "--accumulate", "2"], []),
        (LORATE, ["--processes", "2"], ["--rule", "adaptive-loss"], ["--task", "sequence-classification"]),
    ],
    ids=["accelerate launch", "auto, accumulated", "classifier"],
)
def test_two_processes_give_the_numbers_of_one_with_twice_the_batch(
    train: list[str],
    tmp_path: Path,
    bert_dir: Path,
    launcher: list[str],
    count: list[str],
    rule: list[str],
    task: list[str],
) -> None:
    words = [*train, "--steps", "10", *rule]
    if task:
        data = tmp_path / "texts.jsonl"
        lines = [f'{{"text": "{w} film {i % 7}", "label": "{w}"}}' for i in range(36) for w in ("good", "bad")]
        data.write_text("\n".join(lines))
        words += [*task, "--model", str(bert_dir), "--data", str(data)]
    assert run([*words, "--batch-size", "4", "--output", str(tmp_path / "one")]) == 0
    ended = launched([*words, *count, "--batch-size", "2", "--output", str(tmp_path / "two")], launcher)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Held-out loss") == 1 and ended.stderr.count("Loading the model") == 1
    within = 1e-4 if "auto" in rule else 1e-5  # auto divides by root mean squares, which passes more of the rounding on
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        for name in ("loss", "eta", "stacked_norm", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=within)
        assert (two["samples"], two["tokens"], two["skipped"]) == (one["samples"], one["tokens"], None)
    first, second = (RunDirectory(tmp_path / name).read_run() for name in ("one", "two"))
    assert (first["processes"], second["processes"]) == (1, 2)
    assert first["plan"]["samples_per_step"] == second["plan"]["samples_per_step"]
    for name in ("eval_before", "eval_after", "eval_change_se"):
        assert second["result"][name] == pytest.approx(first["result"][name], rel=within)


@pytest.mark.slow
def test_a_mistake_is_said_once_and_leaves_nothing(train: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3}\n')
    ended = launched([*train, "--data", str(bad), "--processes", "2", "--output", str(tmp_path / "run")])
    assert ended.returncode == 2
    assert ended.stderr.count("line 2") == 1 and "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def running(train: list[str], tmp_path: Path) -> Any:
    """A long run on two processes, five steps after its start, and its processes by rank."""
    words = [*LORATE, *train, *LONG, "--steps", "10000", "--processes", "2", "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup it is ignored, and inherited so
    )
    deadline = time.monotonic() + 120
    while len(records(tmp_path / "run")) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    children = psutil.Process(process.pid).children()
    yield process, sorted(children, key=lambda child: int(child.environ()["RANK"]))
    for one in (process, *children):
        if one.poll() is None if isinstance(one, subprocess.Popen) else one.is_running():
            one.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run(running: Any, rank: int) -> None:
    process, children = running
    children[rank].kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL
    assert f"process {rank} was killed by signal 9" in error and "Traceback" not in error
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


@pytest.mark.slow
@pytest.mark.fault("a process hangs")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_hangs_ends_the_run_and_is_named(
    rank: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("LORATE_TIMEOUT", "10")
    process, children = request.getfixturevalue("running")
    children[rank].suspend()
    _, error = process.communicate(timeout=200)
    assert process.returncode == 1
    assert f"lorate: process {rank} did not answer the others and was ended" in error and "Traceback" not in error
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


@pytest.mark.slow
@pytest.mark.fault("a process raises")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_raises_ends_the_run_and_is_named(rank: int, train: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if os.environ.get('RANK') == '{rank}':\n"
        "    from lorate.monitor import Monitor\n"
        "    update = Monitor.update\n"
        "    def fail(self, optimizer, **options):\n"
        "        if optimizer.last.number == 3: raise ZeroDivisionError('three')\n"
        "        return update(self, optimizer, **options)\n"
        "    Monitor.update = fail\n"
    )
    words = [*LORATE, *train, *LONG, "--steps", "100", "--processes", "2", "--output", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"lorate: process {rank} failed: ")
    assert "ZeroDivisionError: three" in ended.stderr
    info = RunDirectory(tmp_path / "run").read_run()
    assert info["status"] == "failed" and "gloo" not in info["error"]


@pytest.mark.slow
@pytest.mark.fault("the launcher is killed")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_without_their_launcher_processes_save_a_checkpoint_and_end(number: int, running: Any, tmp_path: Path) -> None:
    process, children = running
    process.send_signal(number)
    assert psutil.wait_procs(children, timeout=120)[1] == []
    info = RunDirectory(tmp_path / "run").read_run()
    done = len(records(tmp_path / "run"))
    assert info["status"] == "interrupted" and (tmp_path / "run" / "checkpoints" / f"checkpoint-{done}").exists()
    for count in ([], ["--processes", "3"]):
        ended = launched(["train", "--output", str(tmp_path / "run"), "--resume", *count])
        assert ended.returncode == 2 and "was trained by 2 processes, not" in ended.stderr


@pytest.mark.slow
def test_ctrl_c_and_resume(running: Any, train: list[str], tmp_path: Path) -> None:
    process, _ = running
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "--resume --processes 2" in error
    done = len(records(tmp_path / "run"))
    assert 5 <= done < 10000
    resume = ["train", "--output", str(tmp_path / "run"), "--resume", "--steps", str(done + 2)]
    alone = launched(resume)
    assert alone.returncode == 2 and "was trained by 2 processes, not 1" in alone.stderr
    assert launched([*resume, "--processes", "2"]).returncode == 0
    whole = [*train, *LONG, "--processes", "2", "--steps", str(done + 2), "--output", str(tmp_path / "whole")]
    assert launched(whole).returncode == 0
    resumed, at_once = ([r | OWN for r in records(tmp_path / name)] for name in ("run", "whole"))
    assert resumed == at_once


def test_losses_of_shares_come_back_in_order() -> None:
    """Batches of three go round; the last round is filled up from the start."""
    examples = torch.arange(10.0)
    batches = torch.cat([examples, examples[:2]]).split(3)
    shares = [torch.cat(batches[rank::2]) for rank in (0, 1)]
    assert torch.equal(in_order(shares, size=3)[:10], examples)


def test_alone_nothing_is_met_and_an_error_stays_itself() -> None:
    meet("cpu")
    assert not torch.distributed.is_initialized()
    with pytest.raises(ZeroDivisionError), together():
        _ = 1 / 0


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharding_by_accelerate_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with pytest.raises(LorateError, match=f"set to use {kind}; leave that out"):
        meet("cpu")


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("cuda:1") == "cuda:1"
    for name, value in {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert own_device("cpu") == "cpu"
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert own_device("cuda") == "cuda:1"
    with pytest.raises(LorateError, match="cuda:1 is one device, and 2 processes train here"):
        own_device("cuda:1")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    with pytest.raises(LorateError, match="2 processes need a device each, and there are 1 of cuda"):
        own_device("cuda")


def test_a_launcher_that_started_other_processes_is_told(
    train: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run([*train, "--processes", "2"]) == 2
    assert "--processes 2, but a launcher started 4" in capsys.readouterr().err


def test_a_plan_counts_all_processes(
    train: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*train, "--processes", "3", "--batch-size", "2", "--dry-run"]) == 0
    assert "6 samples" in capsys.readouterr().out
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run([*train, "--batch-size", "2", "--dry-run"]) == 0
    assert "8 samples" in capsys.readouterr().out


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(tmp_path: Path) -> None:
    run_directory = RunDirectory(tmp_path)
    check_processes(run_directory, {"processes": 1})
    check_processes(run_directory, {})  # a run of an earlier version
    with pytest.raises(LorateError, match="was trained by 2 processes, not 1: go on with --processes 2"):
        check_processes(run_directory, {"processes": 2})


def test_a_connection_that_breaks_is_the_error_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="gloo"), noticing_lost_processes():
        raise broken  # alone there is no other process
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with (
        pytest.raises(OtherProcessError, match="another process of the run ended or"),
        noticing_lost_processes(),
    ):
        raise broken
    timeout = RuntimeError("Application timeout caused pair closure")
    with pytest.raises(OtherProcessError, match="did not answer"), noticing_lost_processes():
        raise timeout
    with pytest.raises(RuntimeError, match="out of memory"), noticing_lost_processes():
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("main", [True, False])
def test_an_error_of_another_process_is_said_by_the_main_one(main: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "is_main", lambda: main)
    monkeypatch.setattr(ranks, "everyones", lambda value: [value, "no such file"])
    with pytest.raises(LorateError, match="no such file") as info, together():
        pass
    assert (type(info.value) is OtherProcessError) is not main
