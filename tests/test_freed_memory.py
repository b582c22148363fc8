"""Freed memory stays with the process, unless the user said otherwise."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lorate
import lorate.freed_memory
from lorate.cli.app import run
from lorate.freed_memory import keep_freed_memory
from lorate.sweep import Run, SweepFolder, run_missing

GIVEN = """
import resource, sys
from lorate.freed_memory import keep_freed_memory
import torch
if {kept}:
    assert keep_freed_memory()
for step in range(20):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for step in range(10):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Pages that the kernel had to give for ten blocks of 64 MiB, after twenty that were freed."""

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or torch.accelerator.is_available(), reason="only for glibc without accelerator"
)


def pages_of_new_blocks() -> dict[str, int]:
    """The same in this process."""
    import resource  # not everywhere

    for _ in range(20):
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 24)
    return {"pages": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}


def pages(kept: bool) -> int:
    code = GIVEN.format(kept=kept)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@on_glibc
def test_what_was_freed_is_used_again() -> None:
    assert pages(kept=True) < 1000 < 10_000 < pages(kept=False)


@on_glibc
@pytest.mark.parametrize("variable", ["MALLOC_MMAP_MAX_", "GLIBC_TUNABLES"])
def test_the_users_own_setting_stays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


def test_beside_an_accelerator_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not keep_freed_memory()


@pytest.mark.parametrize(
    "command", ["train --dry-run", "eval no-run --data none", "alpha calibrate --quick", "reproduce burer-monteiro"]
)
def test_commands_keep_it_before_they_begin(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Kept(Exception):
        pass

    def keep() -> None:
        raise Kept

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lorate.freed_memory, "keep_freed_memory", keep)
    with pytest.raises(Kept):
        run(command.split())


@on_glibc
def test_so_do_the_processes_of_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    place = SweepFolder.make_or_resume(tmp_path / "run", {})
    place.write_run({"lorate": lorate.__version__, "config": {}})
    records, _ = run_missing([Run(f"run-{n}", pages_of_new_blocks, {}) for n in range(2)], place, jobs=2)
    assert all(record["result"]["pages"] < 1000 for record in records.values())
