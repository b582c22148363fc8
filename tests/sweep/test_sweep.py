"""A sweep: each run kept as it finishes, resumed, in several processes."""

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info

import lorate
from lorate.errors import LorateError, MissingExtraError, StorageError
from lorate.sweep import Divergence, Run, SweepFolder, run_missing


def halve(number: float, log: str) -> dict[str, Any]:
    with Path(log).open("a") as file:
        file.write(f"{number:g}\n")
    if number == 13:
        raise KeyboardInterrupt
    return {"half": number / 2}


def runs(*numbers: float, log: Path) -> list[Run]:
    return [Run(f"halve-{number:g}", halve, {"number": number, "log": str(log)}) for number in numbers]


def folder(path: Path, **config: Any) -> SweepFolder:
    made = SweepFolder.make_or_resume(path, config)
    made.write_run({"lorate": lorate.__version__, "config": config})
    return made


def test_what_is_finished_is_kept_and_the_rest_done(tmp_path: Path) -> None:
    log, place = tmp_path / "log", folder(tmp_path / "run", experiment="halves")
    with pytest.raises(KeyboardInterrupt):
        run_missing(runs(1, 2, 13, log=log), place, jobs=1)
    seen: list[tuple[int, int, str]] = []
    records, done = run_missing(runs(1, 2, 3, log=log), place, 1, lambda *state: seen.append(state))
    assert done == 1 and log.read_text().split() == ["1", "2", "13", "3"]
    assert [record["result"]["half"] for record in records.values()] == [0.5, 1.0, 1.5]
    assert seen == [(2, 3, ""), (3, 3, "halve-3")]


def test_several_processes_give_the_same(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    results = []
    for jobs in (1, 2):
        records, _ = run_missing(runs(4, 3, 2, log=tmp_path / "log"), folder(tmp_path / str(jobs)), jobs)
        results.append([(name, record["result"]) for name, record in records.items()])
    assert results[0] == results[1] and [name for name, _ in results[0]] == ["halve-4", "halve-3", "halve-2"]


def used_threads() -> dict[str, int]:
    """Threads of torch, of the MKL inside it where it has one, and of NumPy's BLAS."""
    mkl = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    (numpy,) = {pool["num_threads"] for pool in threadpool_info() if pool["internal_api"] == "openblas"}
    return {"torch": torch.get_num_threads(), "numpy": numpy} | ({} if mkl is None else {"mkl": int(mkl[1])})


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_process_has_the_threads_that_are_wanted(tmp_path: Path, jobs: int) -> None:
    pytest.importorskip("joblib")
    torch.set_num_threads(torch.get_num_threads())  # from now on MKL has its own number
    before = used_threads()
    wanted = 3  # another number than that of any machine's cores over its jobs
    twice = [Run(f"run-{number}", used_threads, {}) for number in range(2)]
    records, _ = run_missing(twice, folder(tmp_path / "run"), jobs, threads=wanted)
    assert [record["result"] for record in records.values()] == [dict.fromkeys(before, wanted)] * 2
    assert used_threads() == before


def test_without_joblib_there_is_a_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lorate\[experiments\]', or use a .*: --jobs 1"):
        run_missing(runs(1, 2, log=tmp_path / "log"), folder(tmp_path / "run"), jobs=2)


def test_a_result_of_other_arguments_or_a_damaged_one_is_done_again(tmp_path: Path) -> None:
    log, place = tmp_path / "log", folder(tmp_path / "run")
    run_missing(runs(1, 2, log=log), place, jobs=1)
    one, two = (place.inside(f"finished/halve-{number}.json") for number in (1, 2))
    one.write_text(json.dumps({**json.loads(one.read_text()), "arguments": {"number": 7, "log": str(log)}}))
    two.write_text("{")
    assert run_missing(runs(1, 2, log=log), place, jobs=1)[1] == 2


@pytest.mark.parametrize(
    "damage",
    [{"run": "halve-2"}, {"run": None}, {"seconds": None}, {"seconds": "1"}, {"seconds": True}, {"result": None}],
)
def test_a_record_that_is_not_whole_is_done_again(tmp_path: Path, damage: dict[str, Any]) -> None:
    log, place = tmp_path / "log", folder(tmp_path / "run")
    run_missing(runs(1, log=log), place, jobs=1)
    file = place.inside("finished/halve-1.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    records, done = run_missing(runs(1, log=log), place, jobs=1)
    assert done == 1 and records["halve-1"]["result"] == {"half": 0.5}
    assert run_missing(runs(1, log=log), place, jobs=1)[1] == 0


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "run", experiment="halves", seed=0)
    with pytest.raises(LorateError, match=r"holds another run \(experiment halves, seed 0\) and is not overwritten"):
        folder(tmp_path / "run", experiment="halves", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(LorateError, match="is not empty and holds no"):
        folder(tmp_path / "mine")


@pytest.mark.parametrize("left", [".lock", ".run.json.0123456789ab.tmp"])
def test_what_a_process_leaves_that_ends_before_it_began_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("")
    with folder(tmp_path, experiment="halves").in_use():
        assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_an_empty_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    for log in ("one", "two"):  # begun, and gone on with
        run_missing(runs(1, log=tmp_path / log), folder(tmp_path / "run", experiment="halves"), jobs=1)
    assert (tmp_path / "scratch" / "finished" / "halve-1.json").is_file() and (tmp_path / "run").is_symlink()
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(LorateError, match="lost is not a directory"):
        folder(tmp_path / "lost")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "it holds no run.json"),
        ("{", "cannot be read as JSON"),
        ('{"lorate": "9.0", "format": 99}', "has format 99 of lorate 9.0, and .* install that version, or a later one"),
    ],
)
def test_a_run_json_that_does_not_do_is_said(tmp_path: Path, text: str | None, reason: str) -> None:
    place = folder(tmp_path / "run")
    run_missing(runs(1, log=tmp_path / "log"), place, jobs=1)
    place.run.unlink()
    if text is not None:
        place.run.write_text(text)
    kept = "its finished runs are still there, in finished/: put a good run.json there, or choose another --output"
    with pytest.raises(LorateError, match=rf"run cannot be continued \(.*{reason}.*\); {kept}"):
        folder(tmp_path / "run")
    (tmp_path / "run" / "finished" / "halve-1.json").unlink()
    with pytest.raises(LorateError) as error:
        folder(tmp_path / "run")
    assert "finished runs" not in str(error.value)


@pytest.mark.parametrize(("call", "remedy"), [(1, "no run was started: fix this"), (2, "the same command continues")])
def test_a_full_disk_is_said_with_the_place_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, remedy: str
) -> None:
    calls = iter(range(1, 9))

    def full(_: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def use() -> int:
        place = SweepFolder.make_or_resume(tmp_path / "run", {})
        with place.in_use():
            place.write_run({"lorate": lorate.__version__, "config": {}})
            return run_missing(runs(1, log=tmp_path / "log"), place, jobs=1)[1]

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=rf"run: no space left on device; .*{remedy}"):
        use()
    assert use() == 1


def test_a_place_where_no_directory_can_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="run: permission denied; no run was started"):
        SweepFolder.make_or_resume(tmp_path / "run", {})


def test_divergence() -> None:
    def first_fault(*losses: float) -> int | None:
        divergence = Divergence()
        faults = [divergence.fault(loss) is not None for loss in losses]
        return faults.index(True) if any(faults) else None

    assert first_fault(1.0, 0.5, float("nan")) == 2
    assert first_fault(1.0, *[3.1] * 10) == 10 and first_fault(1.0, *[3.1] * 9, 2.9, *[3.1] * 9) is None
    assert first_fault(1.0, *[3.0] * 30) is None
