"""Short names for adapted layers, arranged as people think of them: one panel a kind of module, one row a block."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from lorate.report.words import printable

MOST_PANELS = 15
"""Panels with a kind of their own."""


@dataclass(frozen=True)
class Panel:
    """Layers drawn together.

    Attributes:
        title: what they have in common, for example ``q_proj``; empty for a single panel.
        rows: what tells them apart, for example ``0``, ``1``, ``2``.
        indices: their positions in the list of names.
    """

    title: str
    rows: list[str]
    indices: list[int]


def arrange(names: Sequence[str]) -> list[Panel]:
    """Group layers by the kind of module when that makes the names shorter.

    A name is cut behind its last number that is not its end: ``layers.0.self_attn.q_proj`` belongs to the panel
    ``q_proj`` and to the row ``0``; layers that are the only one of their kind, or of a kind beyond the `MOST_PANELS`
    largest, share a last panel, ``other``. If
    most panels would hold one or two layers only, there is one panel with the names in full, less what all begin with.

    >>> [(p.title, p.rows) for p in arrange([f"m.layers.{i}.attn.{k}_proj" for i in range(3) for k in "qv"])]
    [('q_proj', ['0', '1', '2']), ('v_proj', ['0', '1', '2'])]
    >>> arrange(["base.conv1", "base.fc"])
    [Panel(title='', rows=['conv1', 'fc'], indices=[0, 1])]
    """
    parts = _without_common_start([name.split(".") for name in names])
    groups: dict[str, list[tuple[str, int]]] = {}
    for index, words in enumerate(parts):
        numbers = [place for place, word in enumerate(words[:-1]) if word.isdigit()]
        cut = numbers[-1] + 1 if numbers else 0
        groups.setdefault(".".join(words[cut:]), []).append((".".join(words[:cut]), index))
    if len(names) < 3 * len(groups):
        rows = [printable(".".join(words), 28) for words in parts]
        return [Panel("", rows, list(range(len(names))))] if names else []
    several = sorted((module for module in groups if len(groups[module]) > 1), key=lambda m: -len(groups[m]))
    drawn = set(several[:MOST_PANELS])
    titles = _shortest_endings([module for module in groups if module in drawn])
    panels = []
    for module, title in titles.items():
        rows = _without_constant_words([row for row, _ in groups[module]])
        panels.append(Panel(printable(title, 16), [printable(row, 16) for row in rows], [i for _, i in groups[module]]))
    alone = [index for module, members in groups.items() if module not in drawn for _, index in members]
    if alone:
        panels.append(Panel("other", [printable(".".join(parts[i]), 16) for i in alone], alone))
    return panels


def _without_common_start(parts: list[list[str]]) -> list[list[str]]:
    """Drop the leading words that all names share, but leave every name its last one."""
    shortest = min((len(words) for words in parts), default=1)
    shared = list(takewhile(lambda words: len(set(words)) == 1, zip(*parts, strict=False)))
    start = min(len(shared), shortest - 1)
    return [words[start:] for words in parts]


def _shortest_endings(modules: list[str]) -> dict[str, str]:
    """``self_attn.q_proj`` becomes ``q_proj`` unless another module ends the same way."""
    lasts = [module.rsplit(".", 1)[-1] for module in modules]
    return {
        module: last if lasts.count(last) == 1 and not last.isdigit() else module
        for module, last in zip(modules, lasts, strict=True)
    }


def _without_constant_words(rows: list[str]) -> list[str]:
    """``stages.0.layers.1``, ``stages.3.layers.0`` become ``0.1``, ``3.0``: only what tells the rows apart stays."""
    split = [row.split(".") for row in rows]
    if len({len(words) for words in split}) > 1:
        return rows
    telling = [place for place, words in enumerate(zip(*split, strict=True)) if len(set(words)) > 1]
    return [".".join(words[place] for place in telling) for words in split]
