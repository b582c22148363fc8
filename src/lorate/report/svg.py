"""A matplotlib Figure as inline SVG that takes on the colours and the font of the page around it."""

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from lorate.report import palette
from lorate.report.figures import rendered
from lorate.report.style import ALARM, GRID, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"

_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    ALARM: "var(--alarm)",
    PAPER: "var(--paper)",
    palette.OTHER: "var(--rule-other)",
    **{colour: f"var(--rule-{rule})" for rule, colour in palette.LIGHT.items()},
}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FAMILY = re.compile(r"font-family: [^;]+")
_FONT = re.compile(r"(font: [^;]*?\dpx) [^;]+")  # the shorthand that older matplotlib writes
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(figure: "Figure", prefix: str, description: str) -> str:
    """The figure as an ``<svg>`` element for an HTML page.

    Its width follows the page, its colours become CSS variables (text: ``currentColor``), its text stays text,
    and its identifiers start with ``prefix``, so that several figures can share a page.

    Args:
        figure: in the style of the report.
        prefix: letters and digits, different for each figure of a page.
        description: what it shows, in words, for those who do not see it.
    """
    root = ElementTree.fromstring(rendered(figure, "svg", {"Date": None}))
    metadata = root.find(f"{{{_SVG}}}metadata")
    if metadata is not None:
        root.remove(metadata)
    used = _referenced(root)
    for element in root.iter():
        _rename(element, prefix, used)
        for name in ("style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _themed(element.get(name, "")))
    del root.attrib["width"], root.attrib["height"]
    root.set("role", "img")
    root.set("aria-label", description)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def _referenced(root: ElementTree.Element) -> set[str]:
    used = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            if name == _LINK and value.startswith("#"):
                used.add(value[1:])
    return used


def _rename(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    """Keep only the identifiers that something refers to, made unique for the page."""
    identifier = element.attrib.pop("id", None)
    if identifier in used:
        element.set("id", f"{prefix}-{identifier}")
    for name, value in element.attrib.items():
        if name == _LINK and value.startswith("#"):
            element.set(name, f"#{prefix}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def _themed(css: str) -> str:
    css = _FAMILY.sub("font-family: var(--sans)", _FONT.sub(r"\1 var(--sans)", css))
    return _COLOUR.sub(lambda match: _VARIABLES.get(match[0], match[0]), css)
