"""Records as tokens, of which some count: what a language model is trained and judged on."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks.chat_template import ChatTemplate, Rendered
from lorate.tasks.counts import Counts, Lengths
from lorate.tasks.examples import IGNORED
from lorate.tasks.kinds import PREFERENCES, RecordKind, TrainOn
from lorate.tasks.mask import Ints, Mask, blanks_meet, counted, counted_by_prefixes, crossed
from lorate.tasks.quiet import quiet

PROMPT_TOKENS = 32
"""How much of a plain text is given as the prompt."""


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
    """Both parts of the data as tokens, and what made them.

    Attributes:
        encoder: makes the tokens of prompts in the same way.
        train: the part to train on.
        eval: the held-out records that are evaluated.
    """

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
        if self.kind in ("messages", "preference"):
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
        counts, lengths = Counts(records=len(part)), Lengths()
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
        notes = self.template.notes() if self.template is not None and self.train_on != "all" else []
        return Encoded(rows, counts, [*counts.notes(self.max_length), *notes])

    def rows_of(self, record: dict[str, Any], place: str = "") -> list[tuple[list[int], list[int]]]:
        """Tokens and labels of each sequence of one record, cut to the maximum length."""
        found = self._batch([record], [0], [place], Counts(records=1), Lengths())
        return [
            (ids.tolist(), labels.tolist()) for ids, labels in zip(found["input_ids"], found["labels"], strict=True)
        ]

    def prompt(self, record: dict[str, Any]) -> str:
        """What the model is asked with: up to the last answer that is learned; of a plain text its first words."""
        if self.kind in PREFERENCES:
            asked = record["prompt"]
            return asked if self.template is None else self.template.render(asked, record.get("tools"), prompt=True)
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
        lengths: Lengths,
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

    def _tokens(self, texts: Sequence[Rendered]) -> Iterator[tuple[Ints, Mask, bool]]:
        """Tokens of each text, which of them count, and whether one of them begins in what does not."""
        adds_marks = self.template is None
        fast = self.tokenizer.is_fast
        found = self.tokenizer(
            [text.text for text in texts],
            add_special_tokens=adds_marks,
            return_offsets_mapping=fast,
            return_attention_mask=False,
        )
        for number, text in enumerate(texts):
            ids = np.asarray(found["input_ids"][number], dtype=np.int64)
            if fast and not blanks_meet(text):
                offsets = np.asarray(found["offset_mapping"][number], dtype=np.int64).reshape(-1, 2)
                mask = counted(offsets, text.learned)
                merged = crossed(offsets, text.learned) and self._by_prefixes(ids, text)[1]
            else:
                mask, merged = self._by_prefixes(ids, text)
            if adds_marks and (not len(ids) or ids[-1] != self.tokenizer.eos_token_id):
                ids, mask = np.append(ids, self.tokenizer.eos_token_id), np.append(mask, True)
            if text.learned == [(0, len(text.text))]:
                mask[:] = True  # the mark of the beginning too
            if adds_marks:
                mask[-1] = True
            yield ids, mask, merged

    def _by_prefixes(self, ids: Ints, text: Rendered) -> tuple[Mask, bool]:
        return counted_by_prefixes(self.tokenizer, ids, text, adds_marks=self.template is None)

    def _pieces(self, ids: Ints, mask: Mask) -> Iterator[tuple[Ints, Mask]]:
        """A plain text in equal pieces that fit; anything else whole."""
        count = -(-len(ids) // self.max_length) if self.kind == "text" else 1
        yield from zip(np.array_split(ids, count), np.array_split(mask, count), strict=True)

    def _refuse(self, counts: Counts, lengths: Lengths) -> None:
        beyond = lengths.beyond(self.max_length)
        if self.kind != "text" and self.train_on != "all" and 2 * beyond > lengths.count:
            most, whole = lengths.holding(0.95), lengths.holding(1.0)
            share = f"{most} holds 95% of them, {whole} all" if most < whole else f"{whole} holds all of them"
            raise LorateError(
                f"{beyond:,} of {lengths.count:,} sequences lose tokens to learn at the maximum of {self.max_length} "
                f"tokens, so most answers would not be learned to their end: --max-length {share}."
            )
        if not counts.rows:
            raise LorateError(
                f"No record has a token to learn ({counts.records:,} records): every answer is empty, of weight 0, or "
                f"beyond the maximum of {self.max_length} tokens."
            )


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
