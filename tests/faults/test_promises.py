"""What docs/promises.md says of these tables, and of the tests of each promise, is so."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_disk
import test_files
import test_numbers
import test_permissions
import test_shapes
import test_signals

ROOT = Path(__file__).parent.parent.parent
TABLES: dict[str, list[Any]] = {
    "files × damage, `--resume`": [test_files.test_resume_meets_damage],
    "files × damage, `--force`": [test_files.test_force_meets_damage],
    "files × damage, `report` and `certify`": [test_files.test_the_report_and_the_certificate_meet_damage],
    "files × permissions, `--resume`": [test_permissions.test_resume_meets_missing_permissions],
    "files × permissions, `--force`": [test_permissions.test_force_meets_missing_permissions],
    "files × permissions, `report` and `certify`": [
        test_permissions.test_the_report_and_the_certificate_meet_missing_permissions
    ],
    "JSON entries × values, `--resume`": [
        test_shapes.test_resume_meets_any_shape,
        test_shapes.test_resume_meets_alarms_of_any_shape,
    ],
    "JSON entries × values, `report` and `certify`": [
        test_shapes.test_the_report_and_the_certificate_meet_any_shape,
    ],
    "options × numbers": [
        test_numbers.test_a_file_of_options_holds_any_number,
        test_numbers.test_the_command_line_holds_any_number,
        test_numbers.test_options_in_python_are_any_number,
    ],
    "phases × signals": [test_signals.test_a_signal_ends_the_run_and_it_goes_on_with_the_same_numbers],
    "writes × full disk": [test_disk.test_a_disk_that_is_full_once_costs_nothing_but_time],
}


def sizes(test: Any) -> tuple[int, int]:
    """How many cases a test has, and how many of them are not exhaustive."""
    cases = usual = 1
    for mark in test.pytestmark:
        if mark.name == "parametrize":
            values = list(mark.args[1])
            cases *= len(values)
            usual *= sum("exhaustive" not in {one.name for one in getattr(value, "marks", ())} for value in values)
    return cases, usual


def page() -> str:
    return (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_the_numbers_of_cases_are_those_of_the_tables(table: str) -> None:
    found = [sizes(test) for test in TABLES[table]]
    cases, usual = (sum(column) for column in zip(*found, strict=True))
    assert f"\n| {table} | {cases:,} | {usual:,} | " in page()


def test_the_usual_tests_try_two_thousand_cases() -> None:
    assert sum(sizes(test)[1] for tests in TABLES.values() for test in tests) >= 2000


@pytest.mark.slow
def test_each_promise_has_as_many_tests_as_it_says() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "", "tests"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = re.findall(r"^\| .+ \| ((?:`tests/[\w/.]+`(?:, )?)+) \| ([\d,]+) \|$", page(), flags=re.MULTILINE)
    assert len(rows) > 20
    for files, count in rows:
        places = tuple(name if name.endswith(".py") else f"{name}/" for name in re.findall(r"`(.+?)`", files))
        assert sum(line.startswith(places) for line in listed) >= int(count.replace(",", "")), files
