"""Give the figures of the site a dark form: as the page is, light or dark, so are its figures.

Matplotlib writes each colour into the elements themselves. A style sheet inside the SVG overrules them where the page
around it is dark; the colours are those of the reports.
"""

import re
from pathlib import Path
from typing import Any

import lorate.report
from lorate.report import palette
from lorate.report.style import ALARM, GRID, INK, MUTED, PAPER

CSS = Path(lorate.report.__file__).parent / "page_files" / "page.css"
TRANSPARENT = "transparent"


def on_post_build(config: Any) -> None:
    """Add the style sheet to each SVG that Matplotlib made."""
    sheet = f"<style>@media (prefers-color-scheme: dark) {{\n{dark_rules()}\n}}</style>"
    for file in Path(config.site_dir).rglob("*.svg"):
        text = file.read_text(encoding="utf-8")
        if "Matplotlib" in text:
            file.write_text(re.sub(r"</defs>", lambda end: sheet + end[0], text, count=1), encoding="utf-8")


def dark_rules() -> str:
    """A CSS rule for the filling and one for the line of every colour."""
    return "\n".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}'
        for light, dark in dark_colours().items()
        for kind in ("fill", "stroke")
    )


def dark_colours() -> dict[str, str]:
    """The dark counterpart of every colour that figures use; colours of no rule serve on both."""
    sheet = CSS.read_text(encoding="utf-8").partition("prefers-color-scheme: dark")[2].partition("}")[0]
    dark = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", sheet))
    inks = {INK: dark["ink"], MUTED: dark["muted"], GRID: dark["grid"], ALARM: dark["alarm"], PAPER: TRANSPARENT}
    return inks | {palette.LIGHT[rule]: palette.DARK[rule] for rule in palette.LIGHT}
