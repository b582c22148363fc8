"""Pairs of answers as tokens, and how a model judges each pair; TRL's DPOTrainer makes the tokens and the loss."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.tasks.counts import Counts, Lengths
from lorate.tasks.encoding import Encoded, Encoder
from lorate.tasks.progress import counted

EVEN = math.log(2)
"""The loss of a pair between which the model does not choose."""


def check_pairs(encoder: Encoder, part: Any, places: Sequence[str]) -> Any:
    """The records with their numbers, once the chat template has taken each of them.

    Args:
        encoder: of the run.
        part: a ``datasets.Dataset`` of preference records.
        places: file and line of each, for errors.

    Raises:
        LorateError: the template refuses a record.
    """
    if encoder.template is not None:
        for record, where in counted(zip(part, places, strict=False), len(part)):
            for answer in ("chosen", "rejected"):
                encoder.template.render(record["prompt"] + record[answer], record.get("tools"), where=where)
    return part.add_column("record", list(range(len(part))))


def encode_pairs(encoder: Encoder, rows: Any, records: int) -> Encoded:
    """What became of the records in TRL's hands; it cuts at the end, and drops what has no token of an answer left.

    Args:
        encoder: of the run.
        rows: the trainer's data set, with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
        records: how many there were.

    Raises:
        LorateError: nothing is left to learn, or most pairs are cut.
    """
    max_length, lengths = encoder.max_length, Lengths()
    counts = Counts(records=records, rows=len(rows), unlearned=records - len(rows))
    for row in counted(rows, len(rows)):
        given = len(row["prompt_ids"])
        asked = encoder.prompt_ids(encoder.prompt(row))
        if encoder.template is None:
            counts.merged += len(asked) > given
        elif len(asked) > given:
            counts.unlike += 1
            counts.left = counts.left or str(encoder.tokenizer.decode(asked[given:]))
        whole = [given + len(row[name]) for name in ("chosen_ids", "rejected_ids")]
        for length in whole:
            lengths.add(length, length)
            counts.tokens += min(length, max_length)
            counts.learned += min(length, max_length) - max(given, 1)
        counts.longest = max(counts.longest, *whole)
        counts.cut += max(whole) > max_length
    if not counts.rows:
        raise LorateError(
            f"No record has a token to learn ({records:,} records): every prompt fills the maximum of {max_length} "
            "tokens; give a larger --max-length."
        )
    if 2 * counts.cut > counts.rows:
        raise LorateError(
            f"{counts.cut:,} of {counts.rows:,} pairs are cut at the maximum of {max_length} tokens, so most answers "
            f"would not be judged to their end: --max-length {lengths.holding(1.0)} holds all of them."
        )
    return Encoded(rows, counts, counts.notes(max_length))


def pair_scores(trainer: Any, batches: Iterable[Any]) -> Tensor:
    r"""How the model judges each pair, in evaluation mode and without gradients, by TRL's own loss.

    Its loss is the sigmoid one, $\ell = -\log\sigma(m)$ of the margin m between the two rewards, so that the chosen
    answer has the higher reward where $\ell < \log 2$; equal ones count one half.

    Args:
        trainer: a DPOTrainer.
        batches: one pair each.

    Returns:
        A row for each pair as that of `lorate.tasks.example_scores`: its loss, whether it was judged right, 1, 0, 0.
    """
    rows, model = [], trainer.model
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for batch in batches:
            loss, _, _ = trainer.prediction_step(model, batch, prediction_loss_only=True)
            value = float(loss)
            right = 0.5 if math.isclose(value, EVEN, abs_tol=1e-6) else float(value < EVEN)
            rows.append([value, right, 1.0, 0.0, 0.0])
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not rows:
        raise LorateError("There is no pair to evaluate.")
    return torch.tensor(rows, dtype=torch.float64)


def shown_pair(row: Any, tokenizer: Any, max_length: int) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Both answers of a row with a title each, in stretches that are learned or given."""
    result = []
    for name, title in (("chosen_ids", "the chosen answer"), ("rejected_ids", "the rejected answer")):
        given, said = row["prompt_ids"], row[name][: max_length - len(row["prompt_ids"])]
        parts = [(str(tokenizer.decode(given)), False), (str(tokenizer.decode(said)), True)]
        result.append((f"One record, {title} marked:", parts))
    return result
