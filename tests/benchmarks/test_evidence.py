"""README's table of evidence is what the committed results say."""

import re
from pathlib import Path

import evidence

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = evidence.BLOCK.search(readme)
    assert found and found[0] == f"<!-- evidence -->\n{evidence.table()}<!-- /evidence -->", (
        "run python benchmarks/evidence.py"
    )


def test_every_row_leads_to_a_page():
    rows = evidence.table().splitlines()[2:]
    pages = [re.search(r"\]\((docs/[^)#]+)", row) for row in rows]
    assert len(rows) > 5 and all(page and (ROOT / page[1]).is_file() for page in pages)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
