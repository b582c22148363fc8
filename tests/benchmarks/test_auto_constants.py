"""The table of the constants of auto."""

import json
from pathlib import Path

from auto_constants import BLOCK, CONSTANTS, PAGE, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "auto_constants.json"


def test_the_page_shows_the_committed_results():
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == f"{found[1]}{table(json.loads(RESULTS.read_text(encoding='utf-8')))}{found[2]}"


def test_what_is_measured_are_the_constants_as_they_are():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    usual = {row["constant"]: row["usual"] for row in rows}
    for name, (module, attribute, _) in CONSTANTS.items():
        assert usual[name] == getattr(module, attribute)
