"""Damage to what a run left behind: found, named, and the last good checkpoint used."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorate.errors import LorateError
from lorate.runs import RunDirectory
from lorate.training import TrainConfig, resume, train
from lorate.training.checkpoints import MANIFEST, Checkpoint, checkpoints, discard_before, seal
from lorate.training.recovery import recover
from training_runs import Notices, PowerCut, adapter_bytes, evaluations, metrics, ten_records

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

FILES = ("trainer_state.json", "optimizer.pt", "adapter_model.safetensors", "rng_state.pth", "scheduler.pt", MANIFEST)


@pytest.fixture(scope="module")
def runs(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``whole``: eight steps; ``cut``: the power went in step 7, with checkpoints at 4 and 6."""
    folder = tmp_path_factory.mktemp("runs")
    config = TrainConfig(
        model=str(llama_dir), data=ten_records(folder), rank=2, alpha=4.0, steps=8, max_length=16, samples=1,
        device="cpu", dropout=0.1, batch_size=2, save_every=2, eval_fraction=0.3,
    )  # fmt: skip
    train(config, folder / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, folder / "cut", listener=PowerCut(7))
    return folder


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(runs / "cut", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def newest(run: RunDirectory) -> Path:
    return checkpoints(run.checkpoints)[0].path


def cut(file: Path, seed: int) -> None:
    file.write_bytes(file.read_bytes()[: random.Random(seed).randrange(file.stat().st_size)])


def flip(file: Path, seed: int) -> None:
    content, choose = bytearray(file.read_bytes()), random.Random(seed)
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    file.write_bytes(content)


def remove(file: Path, seed: int) -> None:
    file.unlink()


def test_an_undamaged_run_goes_on_from_the_newest_checkpoint_in_silence(run: RunDirectory) -> None:
    found = recover(run)
    assert found.step == 6 and found.notes == []


@pytest.mark.fault("damaged checkpoint")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("damage", [cut, flip, remove])
@pytest.mark.parametrize("file", FILES)
def test_damage_to_any_file_is_named_and_the_checkpoint_before_is_used(
    file: str, damage: Callable[[Path, int], None], seed: int, run: RunDirectory
) -> None:
    damage(newest(run) / file, seed)
    found = recover(run)
    if found.step == 6:  # one kind of damage does none: another character of white space in the manifest
        assert file == MANIFEST and json.loads((newest(run) / file).read_text())
        pytest.skip("the manifest says the same as before")
    assert found.step == 4
    fault, use = found.notes
    assert fault.startswith("checkpoint-6") and use == "The run goes on from checkpoint-4."
    if file != MANIFEST:
        assert file in fault


class Watch(Notices):
    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run = run

    def step(self, record: Any, total: int) -> None:
        if record["step"] == 5:
            self.checkpoints_at_step_5 = [checkpoint.path.name for checkpoint in checkpoints(self._run.checkpoints)]


@pytest.mark.fault("damaged checkpoint")
@pytest.mark.parametrize(("file", "damage"), [("optimizer.pt", cut), (MANIFEST, remove)])
def test_from_the_checkpoint_before_the_numbers_are_those_of_the_uninterrupted_run(
    file: str, damage: Callable[[Path, int], None], run: RunDirectory, runs: Path
) -> None:
    damage(newest(run) / file, 0)
    listener = Watch(run)
    assert resume(run.path, listener=listener).status == "finished"
    assert listener.checkpoints_at_step_5 == ["checkpoint-4"]  # the damaged one is not counted as one of two to keep
    assert listener.notices[-1] == "The run goes on from checkpoint-4."
    assert metrics(run.path) == metrics(runs / "whole")
    assert evaluations(run.path) == evaluations(runs / "whole")
    assert adapter_bytes(run.path) == adapter_bytes(runs / "whole")
    assert run.read_run()["resumed"][0]["notes"] == listener.notices
    assert all(checkpoint.fault() is None for checkpoint in checkpoints(run.checkpoints))


@pytest.mark.parametrize("lost", [{"status": "running", "result": None}, {}], ids=["evaluating", "reporting"])
def test_a_run_that_lacks_only_its_end_gets_it(lost: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    """All steps are done, and the process was killed in the last evaluation or before the report was there."""
    run = RunDirectory(shutil.copytree(runs / "whole", tmp_path / "run"))
    finished = run.read_run()
    run.write_run(finished | lost)
    run.report.unlink()
    shutil.rmtree(run.adapter)
    assert resume(run.path).steps == 8
    assert run.read_run()["result"] == finished["result"] and run.report.exists()
    assert metrics(run.path) == metrics(runs / "whole") and evaluations(run.path) == evaluations(runs / "whole")
    assert adapter_bytes(run.path) == adapter_bytes(runs / "whole")


@pytest.mark.fault("damaged checkpoint")
def test_without_a_good_checkpoint_nothing_is_thrown_away(run: RunDirectory) -> None:
    for checkpoint in checkpoints(run.checkpoints):
        flip(checkpoint.path / "optimizer.pt", 0)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(LorateError, match=r"No checkpoint .* checkpoint-6: optimizer.pt has changed .* checkpoint-4"):
        resume(run.path)
    with pytest.raises(LorateError, match="start the run over with --force"):
        resume(run.path)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    shutil.rmtree(run.checkpoints)
    with pytest.raises(LorateError, match=r"No checkpoint .* there is none"):
        resume(run.path)


def test_before_the_first_checkpoint_a_run_begins_anew(run: RunDirectory) -> None:
    """Killed in step 1, or while the first checkpoint was written: there is nothing to lose yet."""
    lines = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join(lines[:2]))
    shutil.rmtree(newest(run))
    first = newest(run).rename(run.checkpoints / "checkpoint-2")
    assert Checkpoint(first, 2).fault() == "it holds the state after step 4"
    (first / MANIFEST).unlink()
    (first / "optimizer.pt").unlink()
    found = recover(run)
    assert found.checkpoint is None and "checkpoint-2 is incomplete" in found.notes[0]
    shutil.rmtree(first)
    assert recover(run).checkpoint is None and recover(run).notes == []
    run.metrics.unlink()
    assert recover(run).checkpoint is None


@pytest.mark.fault("damaged checkpoint")
@pytest.mark.parametrize(("records", "damaged"), [(1, "optimizer.pt"), (2, MANIFEST)])
def test_a_first_checkpoint_that_was_complete_once_is_not_taken_for_one_cut_short(
    records: int, damaged: str, run: RunDirectory
) -> None:
    """As after Ctrl-C in step 1: records end with it if it is cut short, or it has a manifest if it was complete."""
    run.metrics.write_text("".join(run.metrics.read_text().splitlines(keepends=True)[:records]))
    shutil.rmtree(newest(run))
    first = newest(run).rename(run.checkpoints / "checkpoint-1")
    (first / damaged).unlink()
    with pytest.raises(LorateError, match=r"No checkpoint .* can be used: checkpoint-1"):
        recover(run)


def damage_line(run: RunDirectory, step: int, line: bytes) -> None:
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    lines[step - 1] = line + b"\n"
    run.metrics.write_bytes(b"".join(lines))


@pytest.mark.fault("damaged record")
@pytest.mark.parametrize("line", [b'{"step": 5, "lo', b"\x00\x00", b'{"step": 5}', b"[]"])
def test_a_damaged_record_is_made_again_from_the_checkpoint_before_it(line: bytes, run: RunDirectory) -> None:
    damage_line(run, 5, line)
    found = recover(run)
    assert found.step == 4
    assert "metrics.jsonl has changed since checkpoint-6 was written." in found.notes
    assert "metrics.jsonl lacks steps from 5 to 6 at most." in found.notes
    assert any("line 5" in note for note in found.notes) or line == b'{"step": 5}'


@pytest.mark.fault("damaged record")
def test_after_damage_to_a_record_each_step_stands_once(run: RunDirectory, runs: Path) -> None:
    damage_line(run, 5, b"?")
    resume(run.path)
    assert metrics(run.path) == metrics(runs / "whole")


@pytest.mark.fault("damaged record")
def test_a_record_that_no_checkpoint_can_make_again_is_told_and_the_run_goes_on(run: RunDirectory, runs: Path) -> None:
    damage_line(run, 2, b"???")
    listener = Notices()
    resume(run.path, listener=listener)
    assert any("line 2" in notice for notice in listener.notices)
    assert any("lacks steps from 2" in notice for notice in listener.notices)
    assert listener.notices[-1] == "No earlier checkpoint can make this again; the run goes on from step 6."
    assert metrics(run.path) == [record for record in metrics(runs / "whole") if record["step"] != 2]
    assert "metrics.jsonl, line 2" in run.report.read_text()


@pytest.mark.fault("damaged options")
def test_damaged_options_are_replaced_by_their_copy_and_changed_ones_refused(run: RunDirectory, runs: Path) -> None:
    good = run.config.read_text()
    run.config.write_bytes(b"rank: [2, \xff\n")
    found = recover(run)
    assert "config.yaml cannot be read" in found.notes[0] and "The options in run.json are used." in found.notes[0]
    run.config.write_text(good.replace("alpha: 4.0", "alpha: 8.0"))
    with pytest.raises(LorateError, match=r"says alpha: 8.0, but the run began with 4.0"):
        recover(run)
    run.config.write_text(good)
    info = run.read_run()
    run.run.write_text("{")
    with pytest.raises(LorateError, match=r"run.json cannot be read"):
        resume(run.path)
    run.write_run(info)
    assert recover(run).config == recover(RunDirectory(runs / "cut")).config


@pytest.mark.fault("damaged options")
def test_losses_before_training_are_made_again_if_their_file_is_damaged(run: RunDirectory, runs: Path) -> None:
    (run.path / "before.json").write_text('{"losses": [')
    listener = Notices()
    outcome = resume(run.path, listener=listener)
    assert listener.notices[0] == "before.json is not as it was written, and is made again."
    assert outcome.change is not None and outcome.change.before == evaluations(runs / "whole")[0]["eval_loss"]
    assert evaluations(run.path) == evaluations(runs / "whole")


@pytest.mark.fault("damaged options")
@pytest.mark.parametrize(
    "change", [lambda rows: rows[:-1], lambda rows: rows * 2, lambda rows: []], ids=["cut", "twice", "none"]
)
def test_losses_before_training_are_one_for_each_held_out_example(
    change: Callable[[list[Any]], list[Any]], run: RunDirectory, runs: Path
) -> None:
    """Also where no digest shows that the file was changed: earlier versions wrote none."""
    file = run.path / "before.json"
    content = json.loads(file.read_text())
    del content["sha256"]
    file.write_text(json.dumps({**content, "scores": change(content["scores"])}))
    listener = Notices()
    resume(run.path, listener=listener)
    assert listener.notices[0] == "before.json is not as it was written, and is made again."
    assert evaluations(run.path) == evaluations(runs / "whole")
    assert len(json.loads(file.read_text())["scores"]) == len(content["scores"])


@pytest.mark.fault("damaged options")
def test_a_run_of_two_processes_does_not_go_on_with_one(run: RunDirectory) -> None:
    run.write_run({**run.read_run(), "processes": 2})
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(LorateError, match="was trained by 2 processes, not 1: go on with --processes 2"):
        resume(run.path)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


@pytest.mark.fault("clocks that differ")
def test_checkpoints_are_kept_by_their_steps_whatever_the_clock_says(run: RunDirectory, runs: Path) -> None:
    """As after ``rsync -a`` from a machine whose clock is an hour ahead."""
    ahead = time.time() + 3600
    for checkpoint in checkpoints(run.checkpoints):
        for path in (*checkpoint.path.iterdir(), checkpoint.path):
            os.utime(path, (ahead, ahead))
    assert resume(run.path).status == "finished"
    assert [(one.step, one.fault()) for one in checkpoints(run.checkpoints)] == [(8, None), (6, None)]
    assert adapter_bytes(run.path) == adapter_bytes(runs / "whole")


def test_old_checkpoints_go_only_when_two_complete_ones_are_there(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (2, 8):
        (tmp_path / f"checkpoint-{step}" / MANIFEST).write_text("{}")
    discard_before(tmp_path, 8)  # 4 and 6 were never complete
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-8"]


@pytest.mark.fault("a checkpoint of another version")
@pytest.mark.parametrize(
    "change",
    [lambda state: state.pop("param_groups"), lambda state: state.update(state=3), lambda state: state.clear()],
)
def test_a_state_of_another_version_is_one_sentence(change: Callable[[Any], Any], run: RunDirectory) -> None:
    file = newest(run) / "optimizer.pt"
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)
    seal(newest(run))
    with pytest.raises(LorateError, match=r"checkpoint-6 cannot be loaded \(.*delete this checkpoint, and --resume"):
        resume(run.path)
    shutil.rmtree(newest(run))
    assert resume(run.path).status == "finished"


@pytest.mark.fault("a manifest that leaves files out")
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_manifest_lists_all_that_a_run_goes_on_from(name: str, run: RunDirectory) -> None:
    manifest = json.loads((newest(run) / MANIFEST).read_text())
    del manifest["files"][name], manifest["sha256"]
    (newest(run) / MANIFEST).write_text(json.dumps(manifest))
    assert "does not list" in (checkpoints(run.checkpoints)[0].fault() or "")
    assert recover(run).step == 4


def test_other_versions_than_at_the_beginning_are_noticed(run: RunDirectory) -> None:
    info = run.read_run()
    run.write_run({**info, "lorate": "0.0.9", "versions": {**info["versions"], "torch": "2.0.0"}})
    (note,) = recover(run).notes
    assert note.startswith("The run began with lorate 0.0.9, now ") and "torch 2.0.0, now " in note


@pytest.mark.fault("changed data")
def test_changed_data_are_refused_and_the_run_stays_as_it_is(run: RunDirectory, tmp_path: Path) -> None:
    data = tmp_path / "other.jsonl"
    original = Path(run.read_config()["data"])
    data.write_text(original.read_text())
    for file in (run.config, run.run):
        file.write_text(file.read_text().replace(str(original), str(data)))
    rows = data.read_text().splitlines()
    data.write_text("\n".join([rows[0].replace(" one", " two"), *rows[1:]]))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(LorateError, match=r"The data .*other.jsonl have changed since the run began"):
        resume(run.path)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    data.write_text("\n".join(reversed(rows)))  # the same records in another order are the same data
    assert resume(run.path).status == "finished"


def test_only_a_lock_and_half_a_file_are_nothing_to_lose(run: RunDirectory, runs: Path, tmp_path: Path) -> None:
    """Killed between making the directory and its run.json: the same command begins again."""
    place = tmp_path / "new"
    place.mkdir()
    (place / ".lock").touch()
    (place / ".run.json.0123456789ab.tmp").write_text("{")
    RunDirectory.check_free(place)
    (place / "thesis.tex").touch()
    with pytest.raises(LorateError, match="not empty"):
        RunDirectory.check_free(place)


@pytest.mark.fault("damaged options")
def test_killed_before_config_yaml_the_options_are_those_of_run_json(run: RunDirectory) -> None:
    os.remove(run.config)
    notes: list[Any] = recover(run).notes
    assert "holds no config.yaml. The options in run.json are used." in notes[0]


@pytest.mark.fault("damaged manifest")
@pytest.mark.parametrize("content", ['{"files": ["trainer_state.json"]}', '{"files": 3}', "[" * 100_000, "[]", "{"])
def test_a_manifest_that_is_none_is_damage(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    assert "manifest.json is damaged" in (Checkpoint(tmp_path, 1).fault() or "")
