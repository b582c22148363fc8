"""Freed memory stays with the process, unless the user said otherwise."""

import platform
import subprocess
import sys

import pytest
import torch

from lorate.freed_memory import keep_freed_memory

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
