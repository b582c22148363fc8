"""Freed memory that stays with the process, which makes steps on a CPU faster."""

import ctypes
import os
import platform
from typing import Final

import torch

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_CHOSEN_BY_USER = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for the next step instead of handing it back to the kernel.

    A training step frees its activations, and the next one asks for as much again. glibc unmaps blocks of more than
    32 MiB as soon as they are freed, so the kernel has to find and clear every page again, step after step.
    ``benchmarks/memory_kept.py`` measures what that costs.

    This changes the whole process: commands do it, since theirs is their own; a library should not.

    Returns:
        Whether anything was changed. Nothing is changed where the C library is not glibc, where one of its environment
        variables is set, or beside an accelerator, where large blocks are only passed on.
    """
    if platform.libc_ver()[0] != "glibc" or torch.accelerator.is_available():
        return False
    if any(name in os.environ for name in _CHOSEN_BY_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # no block is mapped by itself, and the heap is never cut at its end
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
