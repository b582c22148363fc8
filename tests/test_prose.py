"""Sentences of the documentation are short, and some habits of translated English stay out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LONGEST = 40
"""Words of a sentence."""

NOT_PROSE = re.compile(
    r"^```.*?^```|<!--.*?-->|\$\$.*?\$\$|\\\[.*?\\\]|^\|.*?$|^!\[.*?$|^ *<.*?$|^:::.*?$", re.DOTALL | re.MULTILINE
)
MATHEMATICS = re.compile(r"\$[^$]+\$|\\\(.*?\\\)|`[^`]+`", re.DOTALL)
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)(?:\{[^}]*\})?", re.DOTALL)
BREAK = re.compile(r"\n\s*\n|\n *(?:[-*+]|\d+\.) |\n#+ |\n *> ")
END = re.compile(r"(?<=[.!?])[\")*_]*\s+(?=[\"(*_`]*[A-Z0-9`‖$η⟨])")
WORD = re.compile(r"[^\W_][\w'’.,-]*")


def sentences(text: str) -> list[str]:
    """The sentences of a page without code, tables and formulas; one formula or name in a sentence is one word."""
    text = NOT_PROSE.sub("\n\n", text)
    text = LINK.sub(lambda link: link[1], MATHEMATICS.sub("X", text))
    return [" ".join(part.split()) for block in BREAK.split("\n" + text) for part in END.split(block) if part.strip()]


def too_long(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if len(WORD.findall(sentence)) > LONGEST]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_sentence_is_too_long(page: Path) -> None:
    assert too_long(page.read_text(encoding="utf-8")) == []


def test_long_sentences_are_found() -> None:
    long = "word " * 41 + "end."
    assert len(too_long(f"# Title\n\nShort one. {long}\n\n- {long} Short.\n- and\n  {long}")) == 3
    assert too_long(f"```\n{long}\n```\n\n| {long} |\n\n$$ {long} $$\n\n`{long}` is code.") == []
    assert too_long("word " * 30 + "end. And " + "word " * 30 + "end.") == []
    assert too_long("word " * 30 + "\n\n" + "word " * 30) == []
