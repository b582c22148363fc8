import json
import multiprocessing
import os
import sys

import pytest

from lorate.errors import LorateError
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.belongings import carry_over, delete_checkpoint

OURS = {"lorate": "0.1.0", "status": "finished"}


def test_a_new_run_is_an_empty_directory(tmp_path):
    run = RunDirectory.create(tmp_path / "deep" / "run")
    assert run.path.is_dir()
    assert list(run.path.iterdir()) == []
    RunDirectory.create(run.path)  # still empty: nothing to lose


def test_a_place_that_is_taken_is_refused_and_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LorateError, match=r"--resume.*--output.*--force"):
        RunDirectory.create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


TRAINED = {**OURS, "config": {}}


def test_force_replaces_a_run_but_not_what_its_links_point_to(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.txt").write_text("keep")
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(TRAINED)
    (run.path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (run.path / "checkpoints" / "checkpoint-4" / "optimizer.pt").symlink_to(outside / "keep.txt")
    (run.path / "adapter").symlink_to(outside)
    RunDirectory.create(run.path, force=True)
    assert list(run.path.iterdir()) in ([], [run.path / ".lock"])
    assert (outside / "keep.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "name",
    ["thesis.tex", "run.json.bak", "notes/", "adapter/notes.md", "checkpoints/best/optimizer.pt", "report2.html",
     "checkpoints/checkpoint-4/mine/optimizer.pt", "checkpoints/checkpoint-x/optimizer.pt", ".git/HEAD"],
)  # fmt: skip
def test_force_deletes_nothing_where_other_files_lie_and_names_them(tmp_path, name):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(TRAINED)
    run.metrics.write_text("{}\n")
    file = run.path / name
    if name.endswith("/"):
        file.mkdir()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("years of work")
    with pytest.raises(LorateError, match=f"not deleted, because it holds files that lorate did not write: {name}"):
        RunDirectory.create(run.path, force=True)
    assert file.exists() and run.metrics.read_text() == "{}\n"


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "samples.json"])
def test_force_leaves_the_readme_of_a_project_that_a_monitor_wrote_into(tmp_path, name):
    """A Monitor in a folder with other files makes it a run, but it does not write files of these names."""
    (tmp_path / name).write_text("mine")
    RunDirectory(tmp_path).write_run(OURS)
    with pytest.raises(LorateError, match=f"did not write: {name}"):
        RunDirectory.create(tmp_path, force=True)
    assert (tmp_path / name).read_text() == "mine"


def _force(path, queue):
    outcomes = []
    for _ in range(40):
        try:
            run = RunDirectory.create(path, force=True)
            with run.in_use():
                run.write_run(TRAINED)
                (run.path / "checkpoints" / "checkpoint-1").mkdir(parents=True, exist_ok=True)
                (run.path / "checkpoints" / "checkpoint-1" / "optimizer.pt").touch()
            outcomes.append("done")
        except LorateError as error:
            outcomes.append(str(error))
        except Exception as error:
            outcomes.append(repr(error))
    queue.put(outcomes)


@pytest.mark.skipif(sys.platform == "win32", reason="no lock on Windows")
def test_two_processes_with_force_at_once_take_turns_or_are_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_force, args=(tmp_path / "run", queue)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = [outcome for _ in processes for outcome in queue.get(timeout=60)]
    for process in processes:
        process.join()
    assert outcomes.count("done") > 10
    # the one that comes second sees a directory that the first one is about to fill
    assert all("in use" in outcome or "not deleted" in outcome for outcome in outcomes if outcome != "done"), outcomes


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"name": "someone else\'s"}'])
def test_force_deletes_nothing_that_is_no_run_of_ours(tmp_path, content):
    (tmp_path / "thesis.tex").write_text("years of work")
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(LorateError, match="not deleted"):
        RunDirectory.create(tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_or_a_link_is_no_place_for_a_run(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(OURS)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(run.path)
    for name in ("file", "link"):
        with pytest.raises(LorateError, match="not a directory"):
            RunDirectory.create(tmp_path / name, force=True)
    assert run.read_run() == OURS


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, "no run directory"),
        (lambda path: path.mkdir(), "no run.json"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{")), "cannot be read"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{}")), "not written by lorate"),
    ],
)
def test_opening_what_is_no_run_says_why(tmp_path, prepare, words):
    prepare(tmp_path / "run")
    with pytest.raises(LorateError, match=words):
        RunDirectory.open(tmp_path / "run")


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "adapter/../../x"])
def test_no_name_leads_out_of_the_run(tmp_path, name):
    with pytest.raises(LorateError, match="leads out"):
        RunDirectory.create(tmp_path / "run").inside(name)


def test_no_link_leads_out_of_the_run(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    (run.path / "run.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(LorateError, match="leads out"):
        run.write_run(OURS)
    assert not (tmp_path / "elsewhere.json").exists()


def test_run_json_is_strict_and_complete(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run({**OURS, "seconds": float("inf")})
    assert json.loads(run.run.read_text(), parse_constant=pytest.fail)["seconds"] is None
    problems = []
    assert RunDirectory.open(run.path).read_run(problems) == OURS
    assert problems == ["run.json: not what lorate writes, and left out: seconds."]


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(OURS)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        run.write_run({**OURS, "status": "failed"})
    assert run.read_run() == OURS
    assert [entry.name for entry in run.path.iterdir()] == ["run.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_config_survives_the_round_trip(tmp_path):
    pytest.importorskip("yaml")
    run = RunDirectory.create(tmp_path / "run")
    config = {"rule": "theory", "lr": 1e-3, "targets": ["q_proj"], "data": "Prüfung: ja", "force": False, "seed": None}
    run.write_config(config)
    assert run.read_config() == config


def test_config_takes_plain_values_only_and_says_so(tmp_path):
    pytest.importorskip("yaml")
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(LorateError, match="YAML"):
        run.write_config({"model": object()})
    with pytest.raises(LorateError, match=r"no config\.yaml"):
        run.read_config()
    run.config.write_text("- a\n- b\n")
    with pytest.raises(LorateError, match="one option per line"):
        run.read_config()


def _hold(path, ready, release):
    with RunDirectory(path).in_use():
        ready.set()
        release.wait(20)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held on Windows")
def test_a_run_in_use_is_neither_held_twice_nor_deleted(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_run(OURS)
    spawn = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ready, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(run.path, ready, release))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(LorateError, match="in use"), run.in_use():
            pass
        with pytest.raises(LorateError, match="in use"):
            RunDirectory.create(run.path, force=True)
        assert run.read_run() == OURS
    finally:
        release.set()
        holder.join(20)
    with run.in_use():
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2, "lorate": "1.4"}, "has format 2 of lorate 1.4, and this version reads formats up to 1"),
        ({"format": 0}, "has format 0"),
        ({"format": "1"}, "does not say which format"),
        ({"format": True}, "does not say which format"),
        ({"format": None}, "does not say which format"),
        ({"lorate": "99.0"}, "does not say which format"),
    ],
)
def test_a_run_of_another_format_is_refused_and_says_which_version_reads_it(tmp_path, change, words):
    RunDirectory(tmp_path).write_run({**OURS, **change})
    with pytest.raises(LorateError, match=words):
        RunDirectory.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**OURS, "format": 1, "lorate": "99.0"}))
    assert RunDirectory.open(tmp_path).read_run()["lorate"] == "99.0"
    (tmp_path / "run.json").write_text(json.dumps(OURS))  # of the first versions
    RunDirectory.open(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["run.json", "config.yaml", ".lock"])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path, name):
    run = RunDirectory(tmp_path)
    run.write_run(OURS)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LorateError, match="is a pipe, and a file is expected"):
        {"run.json": run.read_run, "config.yaml": run.read_config, ".lock": run.in_use().__enter__}[name]()


def test_what_somebody_put_beside_an_adapter_or_a_checkpoint_stays(tmp_path):
    old, fresh, checkpoint = tmp_path / "old", tmp_path / "fresh", tmp_path / "checkpoint-2"
    for folder in (old, fresh, checkpoint):
        folder.mkdir()
        (folder / "adapter_config.json").write_text(folder.name)
    (old / "notes.md").write_text("mine")
    carry_over(old, fresh)
    assert (fresh / "notes.md").read_text() == "mine" and (fresh / "adapter_config.json").read_text() == "fresh"
    (checkpoint / "notes.md").write_text("mine")
    (checkpoint / "odd.vocabulary").touch()
    delete_checkpoint(checkpoint, {"odd.vocabulary"})
    assert [path.name for path in checkpoint.iterdir()] == ["notes.md"]
    (checkpoint / "notes.md").unlink()
    delete_checkpoint(checkpoint, set())
    assert not checkpoint.exists()


def test_a_folder_with_files_at_the_name_of_a_file_is_refused_before_anything_is_moved(tmp_path):
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    (old / "adapter_config.json").mkdir(parents=True)
    fresh.mkdir()
    (fresh / "adapter_config.json").touch()
    for file in (old / "a.txt", old / "adapter_config.json" / "thesis.tex"):
        file.write_text("mine")
    with pytest.raises(LorateError, match=r"thesis\.tex lies where the file adapter_config\.json belongs"):
        carry_over(old, fresh)
    assert (old / "a.txt").exists() and [path.name for path in fresh.iterdir()] == ["adapter_config.json"]
