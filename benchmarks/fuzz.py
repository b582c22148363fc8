"""Malformed and hostile inputs, tried against every entrance, and how many did harm.

Each target is one entrance for what a user can hand over: options, files of options, data, records of a run, whole
command lines. An input does harm if it ends in anything else than success or one sentence with an exit code that is not
0, or if a file is written outside the run directory. ``inputs`` is how many were tried, ``crashes`` how many different
places in the code did harm; what they were is in ``found`` of the file. Seconds are by the clock; ``processor_seconds``
are those that the processor spent on it.

Run: python benchmarks/fuzz.py --seconds 600 --jobs 2
"""

import argparse
import sys

from _attack import TARGETS, attack
from _record import record
from joblib import Parallel, delayed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each target (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default %(default)s)")
    parser.add_argument("--only", choices=TARGETS, help="one target; nothing is recorded")
    arguments = parser.parse_args()
    chosen = [name for name in TARGETS if arguments.only in (None, name)]
    ended = Parallel(n_jobs=arguments.jobs)(delayed(attack)(name, arguments.seconds) for name in chosen)
    summary: dict[str, float] = {
        "inputs": sum(tried for tried, _, _ in ended),
        "crashes": sum(len(found) for _, found, _ in ended),
        "processor_seconds": round(sum(spent for _, _, spent in ended)),
    }
    for name, (tried, found, _) in zip(chosen, ended, strict=True):
        summary |= {f"{name}: inputs": tried, f"{name}: crashes": len(found)}
    if arguments.only is None:
        command = f"python benchmarks/fuzz.py --seconds {arguments.seconds:g} --jobs {arguments.jobs}"
        record("fuzz", command, summary, found={name: found for name, (_, found, _) in zip(chosen, ended, strict=True)})
    else:
        print(summary)
    sys.exit(int(summary["crashes"] > 0))


if __name__ == "__main__":
    main()
