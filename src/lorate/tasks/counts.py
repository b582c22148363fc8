"""What became of the records when they were made into tokens."""

import math
from dataclasses import dataclass


@dataclass
class Counts:
    """What became of the records of one part.

    Attributes:
        records: how many there were.
        rows: sequences of tokens that they gave; more than records where a text is divided, or where a chat template
            rewrites earlier answers, so that each answer has a sequence of its own.
        tokens: of all sequences.
        learned: of these, those that count.
        cut: records that lost tokens that count at the maximum length.
        unlearned: records without any token that counts, which are left out.
        merged: records in which the last token of the prompt runs into the answer, so that it is another one when the
            model is asked.
        unlike: pairs whose prompt the chat template ends otherwise when it asks than where an answer follows.
        left: that end, of the first of them; it is left out of what is trained on.
        longest: tokens of the longest sequence before it was cut.
    """

    records: int = 0
    rows: int = 0
    tokens: int = 0
    learned: int = 0
    cut: int = 0
    unlearned: int = 0
    merged: int = 0
    unlike: int = 0
    left: str = ""
    longest: int = 0

    def notes(self, max_length: int) -> list[str]:
        """What of this a reader should know, in sentences."""
        of = f"of {self.records:,} records"
        notes = []
        if self.cut:
            notes.append(
                f"{self.cut:,} {of} are cut at {max_length} tokens; the longest has {self.longest:,} (--max-length)."
            )
        if self.unlearned:
            notes.append(f"{self.unlearned:,} {of} have no token to learn and are left out.")
        if self.merged:
            notes.append(
                f"In {self.merged:,} {of} the end of the prompt and the beginning of the answer are one token, which "
                "the model will not see when it is asked: end prompts without a blank, and begin completions with it."
            )
        if self.unlike:
            notes.append(
                f"In {self.unlike:,} {of} the chat template ends the prompt with {self.left!r} when it asks, and "
                "otherwise where an answer follows: TRL leaves that end out, so the answers are learned without it."
            )
        return notes


class Lengths:
    """How long sequences are, up to the last token that counts."""

    def __init__(self) -> None:
        self._needed: list[int] = []

    @property
    def count(self) -> int:
        """How many sequences there are."""
        return len(self._needed)

    def add(self, length: int, needed: int) -> None:
        """Add a sequence with its length up to the last token that counts, or in all where none does."""
        self._needed.append(needed or length)

    def beyond(self, limit: int) -> int:
        """How many are longer."""
        return sum(needed > limit for needed in self._needed)

    def holding(self, share: float) -> int:
        """The maximum length that leaves this share of the sequences whole."""
        return sorted(self._needed)[max(0, math.ceil(share * self.count) - 1)]
