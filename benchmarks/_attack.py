"""Malformed and hostile inputs, tried against one entrance; see `benchmarks/fuzz.py`."""

import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS)]

from fuzz_targets import TARGETS, Target  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from tiny_models import save_llama  # noqa: E402

MEMORY = 12 * 2**30
"""Bytes of address space: an input that asks for more does harm, and not to the machine."""
ROUND = 25
"""Inputs between two looks at the clock."""


def fuzz(target: Target, seconds: float, place: Path, model: Path) -> tuple[int, dict[str, str]]:
    """Try inputs until the time is spent: how many, and of each place that did harm one message."""
    tried, found, end, round_ = 0, dict[str, str](), time.monotonic() + seconds, 0

    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def attempt(case: object) -> None:
        nonlocal tried
        tried += 1
        try:
            target.check(case, place, model)
        except Exception as error:  # counted, and the next input is tried
            here = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in here if "lorate" in Path(frame.filename).parts] or here
            spot = f"{type(error).__name__} in {Path(own[-1].filename).name}, {own[-1].name}"
            found.setdefault(spot, f"{str(error)[:300]} | {str(case)[:300]}")

    while time.monotonic() < end:
        seed(round_)(attempt)()
        round_ += 1
    return tried, found


def attack(name: str, seconds: float) -> tuple[int, dict[str, str], float]:
    """One target, in this process: inputs, what did harm, seconds of the processor."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    before = _processor()
    with TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()
        tried, found = fuzz(TARGETS[name], seconds, place, save_llama(Path(folder) / "tiny-llama"))
    for spot, message in found.items():
        print(f"{name}: {spot}: {message}", file=sys.stderr)
    print(f"{name}: {tried} inputs, {len(found)} did harm", file=sys.stderr)
    return tried, found, _processor() - before


def _processor() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
