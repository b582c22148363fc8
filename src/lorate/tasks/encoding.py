"""Records as tokens, of which some count: what a language model is trained and judged on."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.chat_template import ChatTemplate, Rendered
from lorate.tasks.examples import IGNORED
from lorate.tasks.kinds import RecordKind, TrainOn
from lorate.tasks.quiet import quiet

Ints = NDArray[np.int64]
PROMPT_TOKENS = 32
"""How much of a plain text is given as the prompt."""


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
        longest: tokens of the longest sequence before it was cut.
    """

    records: int = 0
    rows: int = 0
    tokens: int = 0
    learned: int = 0
    cut: int = 0
    unlearned: int = 0
    merged: int = 0
    longest: int = 0


@dataclass(frozen=True)
class Encoded:
    """One part of the data as tokens.

    Attributes:
        rows: a ``datasets.Dataset`` with ``input_ids``, ``labels`` (-100 where a token does not count) and ``record``,
            the index of the record that a row comes from.
        counts: what became of the records.
        notes: sentences about what a reader should know.
    """

    rows: Any
    counts: Counts
    notes: list[str]


@dataclass(frozen=True)
class EncodedData:
    """Both parts of the data as tokens, and what made them."""

    encoder: "Encoder"
    train: Encoded
    eval: Encoded

    @property
    def notes(self) -> list[str]:
        """What a reader should know, of the held-out part too."""
        held_out = [f"Held-out data: {note}" for note in self.eval.notes if note not in self.train.notes]
        return [*self.train.notes, *held_out]


@dataclass
class Encoder:
    """Turns records of one kind into tokens, the same for training, evaluation and samples.

    A conversation becomes what the model's chat template makes of it, with all marks in it; prompts and texts get the
    marks that the tokenizer adds by itself, such as one for the beginning, and end with the end token.

    Args:
        tokenizer: of the model.
        kind: of the records.
        train_on: ``answers``: what the assistant says, or the completion; the ``last`` of them; or ``all``.
        max_length: tokens that a sequence is cut to; a plain text is divided instead.

    Raises:
        LorateError: the tokenizer lacks what the records need.
    """

    tokenizer: Any
    kind: RecordKind
    train_on: TrainOn
    max_length: int
    template: ChatTemplate | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.kind == "messages":
            self.template = ChatTemplate(self.tokenizer)
        elif self.tokenizer.eos_token is None:
            raise LorateError("The model's tokenizer has no end token, which ends every record: use another model.")

    def encode(self, part: Any, places: Sequence[str]) -> Encoded:
        """Encode a part of the data.

        Args:
            part: a ``datasets.Dataset`` with the columns of the kind.
            places: file and line of each record, for errors.

        Raises:
            LorateError: a record cannot be rendered, nothing is left to learn, or most answers are cut.
        """
        datasets = require("datasets", extra="hf")
        counts, lengths = Counts(records=len(part)), _Lengths()
        ids = datasets.List(datasets.Value("int32"))
        features = datasets.Features({"input_ids": ids, "labels": ids, "record": datasets.Value("int32")})

        def encode(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
            records = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            return self._batch(records, numbers, places, counts, lengths)

        with quiet(), _many_threads():
            rows = part.map(
                encode, batched=True, batch_size=200, with_indices=True, remove_columns=part.column_names,
                features=features, new_fingerprint=f"lorate-{os.urandom(8).hex()}",
            )  # fmt: skip
        self._refuse(counts, lengths)
        return Encoded(rows, counts, self._notes(counts))

    def rows_of(self, record: dict[str, Any], place: str = "") -> list[tuple[list[int], list[int]]]:
        """Tokens and labels of each sequence of one record, cut to the maximum length."""
        found = self._batch([record], [0], [place], Counts(records=1), _Lengths())
        return [
            (ids.tolist(), labels.tolist()) for ids, labels in zip(found["input_ids"], found["labels"], strict=True)
        ]

    def prompt(self, record: dict[str, Any]) -> str:
        """What the model is asked with: up to the last answer that is learned; of a plain text its first words."""
        if self.template is not None:
            return self.template.prompt(record["messages"], record.get("tools"))
        if self.kind == "prompt-completion":
            return str(record["prompt"])
        ids = self.tokenizer(record["text"])["input_ids"][:PROMPT_TOKENS]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens of a prompt, as a sequence of training begins with them."""
        ids = list(self.tokenizer(text, add_special_tokens=self.template is None)["input_ids"])
        if self.template is None and len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers end everything
        return ids

    def _batch(
        self,
        records: list[dict[str, Any]],
        numbers: Sequence[int],
        places: Sequence[str],
        counts: Counts,
        lengths: "_Lengths",
    ) -> dict[str, list[Any]]:
        texts = [self._texts(record, places[number]) for record, number in zip(records, numbers, strict=True)]
        flat = [(number, text) for number, found in zip(numbers, texts, strict=True) for text in found]
        counts.unlearned += sum(not found for found in texts)
        result: dict[str, list[Any]] = {"input_ids": [], "labels": [], "record": []}
        if not flat:
            return result
        encoded = zip(flat, self._tokens([text for _, text in flat]), strict=True)
        for number, group in groupby(encoded, key=lambda entry: entry[0][0]):
            kept = cut = merged = False
            for _, (ids, mask, joined) in group:
                lengths.add(len(ids), int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else 0)
                merged |= joined
                for piece, counting in self._pieces(ids, mask):
                    learned = int(counting[1 : self.max_length].sum())  # the first token is predicted from nothing
                    cut |= learned < int(counting[1:].sum())
                    if learned:
                        kept = True
                        piece, counting = piece[: self.max_length], counting[: self.max_length]
                        result["input_ids"].append(piece)
                        result["labels"].append(np.where(counting, piece, IGNORED))
                        result["record"].append(number)
                        counts.rows += 1
                        counts.tokens += len(piece)
                        counts.learned += learned
                counts.longest = max(counts.longest, len(ids))
            counts.cut += cut and kept
            counts.unlearned += not kept
            counts.merged += merged
        return result

    def _texts(self, record: dict[str, Any], place: str) -> list[Rendered]:
        if self.template is not None:
            return self.template.rendered(record["messages"], record.get("tools"), self.train_on, place)
        text = record["text"] if self.kind == "text" else record["prompt"] + record["completion"]
        start = 0 if self.kind == "text" or self.train_on == "all" else len(record["prompt"])
        return [Rendered(text, [(start, len(text))])]

    def _tokens(self, texts: Sequence[Rendered]) -> Iterator[tuple[Ints, NDArray[np.bool_], bool]]:
        """Tokens of each text, which of them count, and whether one of them begins in what does not."""
        marked = self.template is None
        fast = self.tokenizer.is_fast
        found = self.tokenizer(
            [text.text for text in texts],
            add_special_tokens=marked,
            return_offsets_mapping=fast,
            return_attention_mask=False,
        )
        for number, text in enumerate(texts):
            ids = np.asarray(found["input_ids"][number], dtype=np.int64)
            if fast:
                mask, merged = counted(np.asarray(found["offset_mapping"][number]).reshape(-1, 2), text.learned)
            else:
                mask, merged = counted_by_prefixes(self.tokenizer, ids, text, marked)
            if marked and (not len(ids) or ids[-1] != self.tokenizer.eos_token_id):
                ids, mask = np.append(ids, self.tokenizer.eos_token_id), np.append(mask, True)
            mask |= bool(text.learned == [(0, len(text.text))])  # the mark of the beginning too
            if marked:
                mask[-1] = True
            yield ids, mask, merged

    def _pieces(self, ids: Ints, mask: NDArray[np.bool_]) -> Iterator[tuple[Ints, NDArray[np.bool_]]]:
        """A plain text in equal pieces that fit; anything else whole."""
        count = -(-len(ids) // self.max_length) if self.kind == "text" else 1
        yield from zip(np.array_split(ids, count), np.array_split(mask, count), strict=True)

    def _refuse(self, counts: Counts, lengths: "_Lengths") -> None:
        beyond = lengths.beyond(self.max_length)
        if self.kind != "text" and self.train_on != "all" and 2 * beyond > lengths.count:
            raise LorateError(
                f"{beyond:,} of {lengths.count:,} sequences lose tokens to learn at the maximum "
                f"of {self.max_length} tokens, so most answers would not be learned to their end: --max-length "
                f"{lengths.holding(0.95)} holds 95% of them, {lengths.holding(1.0)} all."
            )
        if not counts.rows:
            raise LorateError(
                f"No record has a token to learn ({counts.records:,} records): every answer is empty, of weight 0, or "
                f"beyond the maximum of {self.max_length} tokens."
            )

    def _notes(self, counts: Counts) -> list[str]:
        notes = []
        if counts.cut:
            notes.append(
                f"{counts.cut:,} of {counts.records:,} records are cut at {self.max_length} tokens; the longest has "
                f"{counts.longest:,} (--max-length)."
            )
        if counts.unlearned:
            notes.append(f"{counts.unlearned:,} of {counts.records:,} records have no token to learn and are left out.")
        if counts.merged:
            notes.append(
                f"In {counts.merged:,} of {counts.records:,} records the end of the prompt and the beginning of the "
                "answer are one token, which the model will not see when it is asked: end prompts without a blank, and "
                "begin completions with it."
            )
        if self.template is not None and self.template.prefilled:
            notes.append(
                f"The model's chat template begins each answer with {self.template.prefilled!r} when it asks, and the "
                "answers of the data do not: they are learned without it."
            )
        if self.template is not None and not self.template.ends_answers and self.train_on != "all":
            notes.append(
                "The model's chat template ends an answer without a token of its own: where to stop is not learned."
            )
        return notes


def counted(offsets: Ints, learned: Sequence[tuple[int, int]]) -> tuple[NDArray[np.bool_], bool]:
    """Which tokens count: those of which a part lies in what is learned.

    A token reaches at least from where the one before it ended: some tokenizers leave blanks out of their offsets.

    Args:
        offsets: first and last character of each token, shape ``[tokens, 2]``.
        learned: the parts that count, from and to which character.

    Returns:
        A truth value for each token, and whether one of them begins before a part that counts.
    """
    ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else np.zeros(0, dtype=np.int64)
    starts = np.minimum(offsets[:, 0], np.concatenate([[0], ends[:-1]])[: len(ends)])
    mask = np.zeros(len(ends), dtype=bool)
    merged = False
    for first, last in learned:
        mask |= (ends > first) & (starts < last)
        merged |= bool(((starts < first) & (ends > first)).any())
    return mask, merged


def counted_by_prefixes(tokenizer: Any, ids: Ints, text: Rendered, marked: bool) -> tuple[NDArray[np.bool_], bool]:
    """The same for a tokenizer without offsets: where the tokens of the text up to a place end.

    Args:
        tokenizer: of the model.
        ids: the tokens of the whole text.
        text: with the parts that count.
        marked: whether the tokenizer adds its own marks.
    """

    def common(end: int) -> tuple[int, bool]:
        part = np.asarray(tokenizer(text.text[:end], add_special_tokens=marked)["input_ids"])
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


def marked(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[tuple[str, bool]]:
    """A sequence as text, in stretches that count or do not."""
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORED)
    return [(str(tokenizer.decode([token for token, _ in run])), is_learned) for is_learned, run in runs]


class _Lengths:
    """How long sequences are, up to the last token that counts."""

    def __init__(self) -> None:
        self._needed: list[int] = []

    @property
    def count(self) -> int:
        return len(self._needed)

    def add(self, length: int, needed: int) -> None:
        self._needed.append(needed or length)

    def beyond(self, limit: int) -> int:
        return sum(needed > limit for needed in self._needed)

    def holding(self, share: float) -> int:
        """The maximum length that leaves this share of the sequences whole."""
        ordered = sorted(self._needed)
        return ordered[max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1)]


@contextmanager
def _many_threads() -> Iterator[None]:
    """Let tokenizers use all cores; elsewhere that is turned off, since it does not go with forked processes."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
