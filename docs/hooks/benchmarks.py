"""The page of benchmarks, made from what is committed in benchmarks/results while the site is built.

``<!-- benchmarks -->`` becomes a section for each file: what the script says of itself, its command, versions and
machine, and the numbers of its summary. ``<!-- counts: faults -->`` becomes a table of what one file counted by kind.
"""

import ast
import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
COUNTS = re.compile(r"<!-- counts: (\w+) -->")
LONG = 24
"""A table with more rows is folded."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the sections, and the counts of single files."""
    markdown = COUNTS.sub(lambda found: counts(RESULTS / f"{found[1]}.json"), markdown)
    if "<!-- benchmarks -->" not in markdown:
        return markdown
    return markdown.replace("<!-- benchmarks -->", "\n\n".join(map(section, sorted(RESULTS.glob("*.json")))))


def counts(file: Path) -> str:
    """What was counted of each kind, as a table whose last row is the sum."""
    found = json.loads(file.read_text(encoding="utf-8"))
    heads = list(found["summary"])
    rows = [*found["kinds"].items(), ("all", found["summary"])]
    table = [f"| kind | {' | '.join(heads)} |", f"|---{'|--:' * len(heads)}|"]
    table += [f"| {html.escape(kind)} | {' | '.join(str(row[head]) for head in heads)} |" for kind, row in rows]
    return "\n".join(table)


def section(file: Path) -> str:
    """One file of results as Markdown."""
    found = json.loads(file.read_text(encoding="utf-8"))
    table = ["| number | value |", "|---|---|"]
    table += [f"| {html.escape(name)} | {value} |" for name, value in numbers(found["summary"])]
    body = "\n".join(table)
    if len(table) > LONG:
        body = f"<details markdown>\n<summary>{len(table) - 2} numbers</summary>\n\n{body}\n\n</details>"
    title, _, rest = about(file.stem, found["command"]).partition("\n")
    return "\n\n".join(
        part
        for part in (
            f"## {file.stem.replace('_', ' ').capitalize()}",
            f"**{title.strip()}**",
            rest.strip(),
            f"```bash\n{found['command']}\n```",
            f"{machine(found['machine'])}; {versions(found['versions'])}.",
            body,
        )
        if part
    )


def about(name: str, command: str) -> str:
    """What the script of a benchmark says of itself, without how to run it."""
    named = re.search(r"benchmarks/(\w+)\.py", command)
    script = BENCHMARKS / f"{named[1] if named else name}.py"
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return html.escape(re.sub(r"\n\nRun: .*?(?=\n\n|\Z)", "", text, flags=re.DOTALL), quote=False)


def machine(facts: Mapping[str, Any]) -> str:
    """Processor, cores, threads, and the accelerator if there was one."""
    words = f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    return f"{words}, {facts['accelerator']}" if facts.get("accelerator") else words


def versions(packages: Mapping[str, str]) -> str:
    """``python 3.11.7, lorate 0.1.0, ...``."""
    return ", ".join(f"{package} {version}" for package, version in packages.items())


def numbers(summary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of each entry; entries of entries one after the other.

    >>> list(numbers({"time_s": 0.123456, "auto": {"worst": None}}))
    [('time s', '0.1235'), ('auto, worst', '–')]
    """
    for name, value in summary.items():
        words = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from numbers(value, f"{words}, ")
        else:
            yield words, _cell(value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value)).replace("|", "\\|")
