import threading
import time
from pathlib import Path

import pytest
import torch

from lorate.errors import LorateError
from lorate_papers.workloads import resnet, small_lm
from lorate_papers.workloads.cache import cache_directory, cached_weights, committed_weights


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LORATE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def weights(value=1.0):
    return {"w": torch.full((2, 3), value)}


def never():
    raise AssertionError("made a second time")


def test_made_once_and_read_afterwards(folder):
    first = cached_weights("net", {"steps": 3}, weights)
    again = cached_weights("net", {"steps": 3}, never)
    assert torch.equal(first["w"], weights()["w"]) and torch.equal(again["w"], first["w"])
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".safetensors", ".sha256"]


def test_another_recipe_is_another_file():
    cached_weights("net", {"steps": 3}, weights)
    other = cached_weights("net", {"steps": 4}, lambda: weights(2.0))
    assert other["w"][0, 0] == 2
    assert cached_weights("net", {"steps": 3}, never)["w"][0, 0] == 1


def test_a_changed_file_is_refused(folder):
    cached_weights("net", {}, weights)
    (file,) = folder.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(LorateError, match=r"is not the file that was written there; delete .*\.sha256"):
        cached_weights("net", {}, never)
    file.unlink()
    with pytest.raises(LorateError, match="is not the file that was written there"):
        cached_weights("net", {}, never)
    file.with_suffix(".sha256").unlink()  # what the message says
    assert cached_weights("net", {}, lambda: weights(5.0))["w"][0, 0] == 5


def test_what_was_interrupted_is_made_again(folder):
    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_weights("net", {}, fails)
    assert cached_weights("net", {}, weights)["w"][0, 0] == 1


def test_of_two_at_once_only_one_makes_them():
    pytest.importorskip("fcntl")
    made = []

    def slowly():
        made.append(1)
        time.sleep(0.3)
        return weights()

    threads = [threading.Thread(target=cached_weights, args=("net", {}, slowly)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("LORATE_CACHE", "~/mine")
    assert cache_directory() == Path.home() / "mine"
    monkeypatch.delenv("LORATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/lorate")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "lorate"


def test_committed_weights_are_small():
    for file in (small_lm.QUICK_FILE, resnet.QUICK_FILE):
        found = committed_weights(file)
        assert 0 < sum(values.nbytes for values in found.values()) < 2**20
