"""Where commands print: results to standard output, everything else to standard error.

A name, a prompt or an answer may hold control characters, which move the cursor, rename the window or hide what was
printed. They are shown and not obeyed.
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 but tab and line feed, delete, C1; surrogates, which no stream can write; marks that turn the direction of the text
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class PlainConsole(Console):
    """A console on which only this program's own styles have an effect, whatever the text holds."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As `Console.print`; an error says what could not be written to."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            if error.filename is None:
                error.filename = "standard error" if self.stderr else "standard output"
            raise

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes by here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)


def shown(text: str) -> str:
    """Text that a terminal shows as it is: a sign for each control character, as wide as one letter.

    >>> shown("a" + chr(27) + "[2Jb" + chr(0x9b) + "c")
    'a␛[2Jb�c'
    """
    return _OBEYED.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 32 else "␡" if code == 127 else "�"


stdout = PlainConsole(highlight=False, emoji=False)
stderr = PlainConsole(stderr=True, highlight=False, emoji=False)
