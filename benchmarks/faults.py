"""Faults injected and survived: every test marked ``fault(kind)``, counted by kind.

A fault counts as survived if its test passes: the run goes on and ends with the numbers of the run that was left
alone, the bad step is skipped and named and leaves no trace, or the damage is refused in one sentence and nothing is
lost; which of them is what the test says. Skipped are those that need a right that the machine does not give, such as
mounting a small disk.

Of the tables of ``tests/faults`` a sample is run: ``--tests default`` runs that of ``make test``, ``slow`` that of
``make test-slow`` too, ``exhaustive`` every case.

Run: python benchmarks/faults.py
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import pytest
from _record import record

COMMAND = "python benchmarks/faults.py"
MARKS = {
    "default": "fault and not slow and not exhaustive", "slow": "fault and not exhaustive", "exhaustive": "fault",
}  # fmt: skip
ROOT = Path(__file__).parent.parent


class Count:
    """Counts the outcomes of marked tests by kind."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test when it ends; one whose preparation fails was not survived either."""
        kind = dict(report.user_properties).get("fault")
        if kind is None:
            return
        if report.skipped:
            self.skipped[kind] += 1
        elif report.when == "call" or report.failed:
            self.injected[kind] += 1
            self.survived[kind] += report.passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", choices=MARKS, default="slow", help="which tests to run (default %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="tests at a time (default %(default)s)")
    options = parser.parse_args()
    words = [
        "-q",
        "-n",
        str(options.processes),
        "-m",
        MARKS[options.tests],
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(ROOT),
    ]
    count = Count()
    code = pytest.main([*words, str(ROOT / "tests")], [count])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"pytest ended with {code!r}")
    summary = {"injected": count.injected.total(), "survived": count.survived.total(), "skipped": count.skipped.total()}
    kinds = {
        kind: {"injected": count.injected[kind], "survived": count.survived[kind], "skipped": count.skipped[kind]}
        for kind in sorted({*count.injected, *count.skipped})
    }
    record("faults", f"{COMMAND} --tests {options.tests}", summary, kinds=kinds)
    sys.exit(int(summary["survived"] < summary["injected"]))


if __name__ == "__main__":
    main()
