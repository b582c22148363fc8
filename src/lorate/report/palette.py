"""One colour a rule, the same in every figure, table and experiment.

Each rule has a colour for light and one for dark paper. All have a contrast of at least 3:1 against their paper,
and all pairs stay apart for people with deuteranopia and protanopia (tests/report/test_palette.py measures it).
Two runs under the same rule share its colour and are told apart by the style of the line.
"""

from collections.abc import Sequence

LIGHT_PAPER = "#ffffff"
DARK_PAPER = "#12161c"

LIGHT = {
    "constant": "#6e6e73",
    "theory": "#4b4197",
    "adaptive": "#c87f21",
    "adaptive-loss": "#0279f3",
    "normalized": "#11351c",
    "sharp": "#8b0d5b",
    "one-factor": "#c442b8",
    "majorizer": "#29a182",
    "backtracking": "#4f4b01",
    "auto": "#af542d",
}
DARK = {
    "constant": "#919199",
    "theory": "#d2c1fc",
    "adaptive": "#f4a41f",
    "adaptive-loss": "#449ffb",
    "normalized": "#c3fcdf",
    "sharp": "#c9205a",
    "one-factor": "#855fc6",
    "majorizer": "#2ed3a6",
    "backtracking": "#eefa26",
    "auto": "#da6621",
}
OTHER = "#5f7285"
"""For a rule that has no colour of its own, on either paper."""

LINE_STYLES: Sequence[str | tuple[int, tuple[float, ...]]] = (
    "solid",
    (0, (5.0, 2.0)),
    (0, (1.2, 1.6)),
    (0, (6.0, 1.8, 1.2, 1.8)),
    (0, (9.0, 3.0)),
    (0, (5.0, 1.5, 1.2, 1.5, 1.2, 1.5)),
)


def rule_colour(rule: str) -> str:
    """The colour of a rule on light paper, as ``#rrggbb``; a grey blue for an unknown rule.

    >>> rule_colour("theory")
    '#4b4197'
    """
    return LIGHT.get(rule, OTHER)


def line_styles(rules: Sequence[str]) -> list[str | tuple[int, tuple[float, ...]]]:
    """A line style for each run: the first one of a rule is solid, the next ones dashed, dotted and so on.

    A rule without a colour of its own is never solid beside ``constant``, whose grey is close to its own.

    >>> line_styles(["theory", "constant", "theory"])
    ['solid', 'solid', (0, (5.0, 2.0))]
    >>> line_styles(["constant", "adamw"])
    ['solid', (0, (5.0, 2.0))]
    """
    seen: dict[str, int] = {"": int("constant" in rules)}
    styles = []
    for rule in rules:
        # Rules without a colour of their own share one, so they are counted together.
        key = rule if rule in LIGHT else ""
        styles.append(LINE_STYLES[seen.get(key, 0) % len(LINE_STYLES)])
        seen[key] = seen.get(key, 0) + 1
    return styles
