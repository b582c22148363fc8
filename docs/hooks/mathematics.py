"""Turn LaTeX into MathML while the site is built: no script, no network, readable to screen readers.

The pages bring STIX Two Math along, since stretched brackets and roots need a font made for mathematics.
"""

import html
import re
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont
from math_core import LatexError, LatexToMathML
from properdocs.exceptions import PluginError
from properdocs.structure.toc import AnchorLink

DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>([.,;:)]*)', re.DOTALL)
IN_TITLE = re.compile(r"\\\((.*?)\\\)")
CONVERTER = LatexToMathML(fancy_error=False)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Convert the formulas of a page, and those in its table of contents."""
    display = partial(_mathml, where=page.file.src_uri, display=True)
    inline = partial(_mathml, where=page.file.src_uri, display=False)
    for entry in page.toc:
        _convert_titles(entry, inline)
    return INLINE.sub(lambda match: _unbroken(inline(match), match), DISPLAY.sub(display, content))


def on_post_build(config: Any) -> None:
    """Write the font where stylesheets/extra.css looks for it."""
    font = TTFont(str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"))
    font.flavor = "woff"
    font.save(Path(config.site_dir) / "stylesheets" / "stix-two-math.woff")


def _convert_titles(entry: AnchorLink, inline: Any) -> None:
    entry.title = IN_TITLE.sub(inline, entry.title)
    for child in entry.children:
        _convert_titles(child, inline)


def _unbroken(formula: str, match: re.Match[str]) -> str:
    """A formula on one line with the full stop or comma behind it; a long one may scroll on a phone."""
    style = "formula long" if len(match[1]) > 50 else "formula"
    return f'<span class="{style}">{formula}{match[2]}</span>'


def _mathml(match: re.Match[str], where: str, display: bool) -> str:
    latex = html.unescape(match[1])
    if r"\tag" in latex:
        latex = rf"\begin{{equation}}{latex}\end{{equation}}"
    try:
        return CONVERTER.convert_with_local_state(latex, displaystyle=display)
    except LatexError as error:
        raise PluginError(f"{where}: the formula {latex!r} cannot be shown: {error}") from error
