"""Which tokens of a text count, when certain parts of the text do."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorate.tasks.chat_template import Rendered
from lorate.tasks.examples import IGNORED

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def counted(offsets: Ints, learned: Sequence[tuple[int, int]]) -> Mask:
    """Which tokens count: those of which a part lies in what is learned.

    A token reaches at least from where the one before it ended: some tokenizers leave blanks out of their offsets.

    Args:
        offsets: first and last character of each token, shape ``[tokens, 2]``.
        learned: the parts that count, from and to which character.
    """
    starts, ends = _reach(offsets)
    mask = np.zeros(len(ends), dtype=bool)
    for first, last in learned:
        mask |= (ends > first) & (starts < last)
    return mask


def crossed(offsets: Ints, learned: Sequence[tuple[int, int]]) -> bool:
    """Whether a token may begin before a part that counts and end in it; a blank outside all tokens looks like that."""
    starts, ends = _reach(offsets)
    return any(bool(((starts < first) & (ends > first)).any()) for first, _ in learned)


def counted_by_prefixes(tokenizer: Any, ids: Ints, text: Rendered, adds_marks: bool) -> tuple[Mask, bool]:
    """The same from the tokens alone: those of the text up to a place, as far as the whole begins with them.

    Args:
        tokenizer: of the model.
        ids: the tokens of the whole text.
        text: with the parts that count.
        adds_marks: whether the tokenizer adds its own marks, such as that of the beginning.

    Returns:
        Which tokens count, and whether the whole begins in another way than a text that ends where such a part begins.
    """

    def common(end: int) -> tuple[int, bool]:
        part = np.asarray(tokenizer(text.text[:end], add_special_tokens=adds_marks)["input_ids"], dtype=np.int64)
        if adds_marks and len(part) and part[-1] == tokenizer.eos_token_id:
            part = part[:-1]
        size = min(len(part), len(ids))
        same = part[:size] == ids[:size]
        length = size if same.all() else int(same.argmin())
        return length, length == len(part)

    mask, merged = np.zeros(len(ids), dtype=bool), False
    for first, last in text.learned:
        start, whole = common(first)
        end, complete = common(last)
        mask[start : end if complete else end + 1] = True
        merged |= not whole
    return mask, merged


def blanks_meet(text: Rendered) -> bool:
    """Whether blanks stand on both sides of a border, where offsets without blanks do not tell whose a token is."""
    ends = [end for part in text.learned for end in part if 0 < end < len(text.text)]
    return any(text.text[end - 1].isspace() and text.text[end].isspace() for end in ends)


def marked(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[tuple[str, bool]]:
    """A sequence as text, in stretches that count or do not."""
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORED)
    return [(str(tokenizer.decode([token for token, _ in run])), is_learned) for is_learned, run in runs]


def _reach(offsets: Ints) -> tuple[Ints, Ints]:
    ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else np.zeros(0, dtype=np.int64)
    return np.minimum(offsets[:, 0], np.concatenate([[0], ends[:-1]])[: len(ends)]), ends
