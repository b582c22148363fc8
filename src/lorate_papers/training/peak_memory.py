"""The highest memory use of the process while something runs."""

import re
from pathlib import Path
from typing import Self

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager that measures how far the process grew, at its highest, above where it stood at the beginning.

    It reads what Linux keeps of every process (the resident set and its high-water mark, which is reset first). Memory
    that an earlier run in the same process gave back to its allocator but not to the system is not seen when it is
    used again, so compare runs that had a process of their own, or large differences only.

    Attributes:
        grown_mib: in MiB, after the block; None on systems that do not tell.
    """

    grown_mib: float | None = None

    def __enter__(self) -> Self:
        try:
            _RESET.write_text("5")
            self._before: float | None = _mib("VmRSS")
        except OSError:
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self.grown_mib = _mib("VmHWM") - self._before


def _mib(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{_STATUS} does not tell {name}")
    return int(found[1]) / 1024
