"""Nothing is written outside a run directory, and a folder of data names no file outside itself."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from lorate.errors import LorateError
from lorate.runs import RunDirectory
from lorate.sweep import Run
from lorate.sweep.folder import SweepFolder
from lorate.tasks import load_data
from lorate.training.checkpoints import MANIFEST, NEEDED, STATE, Checkpoint, checkpoints, discard_after, seal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


@pytest.mark.parametrize(
    "name", ["..", "../run2/x", "a/../../x", "/etc/passwd", "link/x", "link", "chain", "loop/../../x"]
)
def test_no_name_leads_out_of_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "run2").mkdir()  # its name begins as the run's does
    run = RunDirectory.create(tmp_path / "run")
    (run.path / "link").symlink_to(tmp_path)
    (run.path / "chain").symlink_to("link")
    (run.path / "loop").symlink_to(".")
    with pytest.raises(LorateError, match="leads out of the run directory"):
        run.inside(name)
    assert run.inside("loop/run.json").resolve() == run.run.resolve()


@pytest.mark.parametrize("name", ["../run", "a/b", "/x", "..\\x", "", "a\x00", "a\n", "×", "~"])
def test_a_run_of_an_experiment_names_one_file(tmp_path: Path, name: str) -> None:
    folder = SweepFolder(tmp_path / "run")
    RunDirectory.create(folder.path).write_run({"lorate": "0"})
    run = Run(name, dict, {})
    for use in (folder.finished, lambda run: folder.save(run, {}, 0.0)):
        with pytest.raises(LorateError, match="cannot name a run"):
            use(run)
    assert os.listdir(folder.path) == ["run.json"] and folder.read_run() == {"lorate": "0"}


def test_a_checkpoint_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / MANIFEST).write_text("mine")
    run = RunDirectory.create(tmp_path / "run")
    run.checkpoints.mkdir()
    (run.checkpoints / "checkpoint-9").symlink_to(mine)
    for look in (checkpoints, lambda folder: discard_after(folder, 2)):
        with pytest.raises(LorateError, match="checkpoint-9 is a link"):
            look(run.checkpoints)
    assert (mine / MANIFEST).read_text() == "mine"


@pytest.mark.parametrize("name", ["../secret", "{absolute}", "link"])
def test_a_manifest_names_files_of_its_checkpoint_only(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    for other in (*NEEDED, "rng_state.pth"):
        (folder / other).touch()
    (folder / STATE).write_text('{"global_step": 2}')
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    seal(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    linked = manifest["files"].pop("link")
    del manifest["sha256"]  # as an earlier version wrote it
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert Checkpoint(folder, 2).fault() is None
    manifest["files"][name.format(absolute=secret)] = linked
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert Checkpoint(folder, 2).fault() == f"{MANIFEST} is damaged"


@pytest.mark.parametrize("what", ["file", "class", "dangling"])
def test_a_link_out_of_an_image_folder_is_refused(image_folder: Path, tmp_path: Path, what: str) -> None:
    elsewhere = tmp_path / "private"
    shutil.copytree(image_folder / "dark", elsewhere)
    if what == "class":
        (image_folder / "grey").symlink_to(elsewhere)
    else:
        target = elsewhere / "0.png" if what == "file" else tmp_path / "nothing.png"
        (image_folder / "dark" / "9.png").symlink_to(target)
    with pytest.raises(LorateError, match=r"is a link that leads out of .*pictures: put a copy"):
        load_data(str(image_folder), kind="image-classification")


def test_a_link_inside_an_image_folder_or_to_it_is_followed(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "light" / "9.png").symlink_to("../light/0.png")
    (tmp_path / "link").symlink_to(image_folder)
    assert load_data(str(tmp_path / "link"), kind="image-classification").labels == ["dark", "light"]


def test_a_link_out_of_a_folder_of_texts_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"text {number}")
    key = tmp_path / "id_rsa"
    key.write_text("secret")
    assert len(load_data(str(folder), kind="causal-lm").train) > 0
    (folder / "notes.txt").symlink_to(key)
    with pytest.raises(LorateError, match=r"notes\.txt is a link that leads out of") as error:
        load_data(str(folder), kind="causal-lm")
    assert "secret" not in str(error.value)
