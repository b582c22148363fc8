"""Files without permission, also for a process that runs as root."""

import ctypes
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root pass over permissions
MODES = {"no permission": 0, "not to be written": stat.S_IRUSR | stat.S_IXUSR, "not to be read": stat.S_IWUSR}


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Inside, this thread is bound by the modes of its files as any user is.

    Raises:
        OSError: the system does not let it give up what root may do.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice

    def call(function: str) -> None:
        if getattr(libc, function)(header, held):
            raise OSError(ctypes.get_errno(), function)

    call("capget")
    before = held[0]
    held[0] = before & ~_OVERRIDES
    call("capset")
    try:
        yield
    finally:
        held[0] = before
        call("capset")


@contextmanager
def without(path: Path, mode: int) -> Iterator[None]:
    """Inside, the path has this mode, and this process is bound by it."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with bound_by_permissions():
            yield
    finally:
        if path.exists():
            path.chmod(before)


def can_be_taken(folder: Path) -> bool:
    """Whether a file can be made that this process may not read."""
    probe = folder / "probe"
    probe.write_text("")
    try:
        with without(probe, 0):
            probe.read_text()
    except OSError:
        return probe.stat().st_mode & stat.S_IRUSR != 0
    finally:
        probe.unlink()
    return False
