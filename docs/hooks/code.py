"""Keep the words of code in the text whole: ``--lr`` must not break behind its hyphens."""

import re

CODE = re.compile(r"<code>([^<\n]+)</code>")
WORD = re.compile(r"[^\s;&]*-[^\s;&]+")
LONGEST = 24
"""Characters; a longer word may break, or it would be wider than a phone."""


def on_page_content(content: str, **_: object) -> str:
    """Mark them; stylesheets/extra.css does the rest."""
    return CODE.sub(lambda code: f"<code>{WORD.sub(_whole, code[1])}</code>", content)


def _whole(word: re.Match[str]) -> str:
    return f'<span class="whole">{word[0]}</span>' if len(word[0]) <= LONGEST else word[0]
