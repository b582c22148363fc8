"""What the documentation takes from committed files while it is built."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("properdocs", reason="needs the extra dev")

from hooks import benchmarks, code, figures, tables

from lorate.report import palette

ROOT = Path(__file__).parent.parent


class Page:
    """What a hook is given, as far as it looks."""

    class file:
        src_uri = "papers.md"


@pytest.mark.parametrize("file", sorted(benchmarks.RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_every_committed_benchmark_is_a_section(file):
    text, found = benchmarks.section(file), json.loads(file.read_text(encoding="utf-8"))
    assert found["command"] in text and f"torch {found['versions']['torch']}" in text
    assert "Run:" not in text
    for name, value in found["summary"].items():
        assert f"| {name.replace('_', ' ')}" in text
        if isinstance(value, float):
            assert f" | {value:.4g} |" in text


def test_counts_are_those_of_the_file():
    found = json.loads((benchmarks.RESULTS / "faults.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    table = benchmarks.on_page_markdown(page)
    for kind, row in [*found["kinds"].items(), ("all", found["summary"])]:
        assert f"| {kind} | {row['injected']} | {row['survived']} | {row['skipped']} |\n" in table
    assert "<!-- counts" not in table


def test_files_that_the_promises_name_exist():
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    names = re.findall(r"`(tests/[\w/.]+)`", page)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_numbers_of_any_kind():
    summary = {"a_b": 0.123456, "c": {"d": None, "e": [1, True]}, "f": "x|y"}
    assert list(benchmarks.numbers(summary)) == [
        ("a b", "0.1235"),
        ("c, d", "–"),
        ("c, e", "1, yes"),
        ("f", "x\\|y"),
    ]


def test_every_colour_of_the_figures_has_a_dark_form():
    dark = figures.dark_colours()
    assert set(palette.LIGHT.values()) < set(dark) and all(light != dark[light] for light in dark)
    assert '[style*="stroke: #5b6675"] { stroke: #9aa6b4 !important }' in figures.dark_rules()


def test_options_do_not_break_behind_hyphens():
    shown = code.on_page_content("<p><code>--lr</code> <code>train --lr 3</code></p><pre><code>a\n--b</code></pre>")
    whole = '<span class="whole">--lr</span>'
    assert shown == f"<p><code>{whole}</code> <code>train {whole} 3</code></p><pre><code>a\n--b</code></pre>"


def test_the_costs_in_the_questions_are_those_of_the_benchmark():
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    found = json.loads((benchmarks.RESULTS / "overhead.json").read_text(encoding="utf-8"))["summary"]
    rows = re.findall(
        r"^\| `([a-z-]+)`(?:, .* (sketch|exact)(?:ed)?)? \| ([+−][\d.]+)% \| ([+−][\d.]+)% \|$", page, re.MULTILINE
    )
    assert len(rows) == 5
    for rule, how, time, memory in rows:
        name = how or rule.replace("-", "_")
        wanted = [f"{100 * (found[f'{kind}_{name}'] - 1):+.1f}".replace("-", "−") for kind in ("overhead", "memory")]
        assert [time, memory] == wanted, rule


def test_options_show_defaults_that_are_zero_and_those_of_a_group():
    train, law = tables.on_page_markdown("<!-- options: train -->|||<!-- options: alpha law -->").split("|||")
    assert "| `--seed` | `0` |" in train and "| `--resume` |  |" in train and "| `--lr` |  |" in train
    assert "| `R` |  |" in law and "| `--c` | `256.0` |" in law
