"""Inputs that nobody meant, tried against every entrance, and how many did harm.

Each target is one entrance for what a user can hand over: options, files of options, data, records of a run, whole
command lines. An input does harm if it ends in anything else than success or one sentence with an exit code that is not
0, or if a file is written outside the run directory. ``inputs`` is how many were tried, ``crashes`` how many different
places in the code did harm; what they were stands in ``found`` of the file.

Run: python benchmarks/fuzz.py --seconds 180
"""

import argparse
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

from _record import record  # noqa: E402
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180.0, help="for all targets together")
    parser.add_argument("--only", help="one target; nothing is recorded")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    chosen = [name for name in TARGETS if arguments.only in (None, name)]
    summary: dict[str, int] = {}
    places: dict[str, dict[str, str]] = {}
    with TemporaryDirectory() as folder:
        model = save_llama(Path(folder) / "tiny-llama")
        for name in chosen:
            place = Path(folder) / "place"
            place.mkdir(exist_ok=True)
            tried, places[name] = fuzz(TARGETS[name], arguments.seconds / len(chosen), place, model)
            summary |= {f"{name}: inputs": tried, f"{name}: crashes": len(places[name])}
            for spot, message in places[name].items():
                print(f"{name}: {spot}: {message}", file=sys.stderr)
    summary = {
        "inputs": sum(count for key, count in summary.items() if key.endswith("inputs")),
        "crashes": sum(map(len, places.values())),
        **summary,
    }
    if arguments.only is None:
        command = f"python benchmarks/fuzz.py --seconds {arguments.seconds:g}"
        record("fuzz", command, summary, found=places)
    else:
        print(summary)
    sys.exit(int(summary["crashes"] > 0))


if __name__ == "__main__":
    main()
