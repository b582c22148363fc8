"""Divide records into a training and an evaluation part."""

import hashlib
import random

from lorate.errors import LorateError
from lorate.tasks.records import Record, RecordSet


def split_records(source: RecordSet, eval_fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Split one source at random, so that duplicates stay together.

    The rule: records of one identity form a group; groups are sorted by the SHA-256 of the identity,
    shuffled by Python's generator with ``seed``, and the first ``round(eval_fraction * groups)`` of them,
    at least one and not all, are the evaluation part. The result depends on the set of records and the
    seed, not on their order in the file.

    Returns:
        The training part and the evaluation part.

    Raises:
        LorateError: fewer than two different records, or a fraction that is not between 0 and 1.
    """
    if not 0 < eval_fraction < 1:
        raise LorateError(f"The evaluation fraction must lie between 0 and 1, found {eval_fraction}.")
    groups = _grouped(source.records, seed)
    if len(groups) < 2:
        found = "1 record" if len(source.records) == 1 else f"{len(source.records)} copies of 1 record"
        raise LorateError(f"{source.name} holds {found}: training and evaluation need at least 2 different ones.")
    count = min(max(1, round(eval_fraction * len(groups))), len(groups) - 1)
    return [r for group in groups[count:] for r in group], [r for group in groups[:count] for r in group]


def pair_records(train: RecordSet, evaluation: RecordSet, seed: int) -> tuple[list[Record], list[Record]]:
    """Use two sources as the two parts; what is in both is left out of the training part.

    Both parts are shuffled by the rule of `split_records`.

    Raises:
        LorateError: two kinds of record, a label that the training data lacks, or no training record left.
    """
    if train.kind != evaluation.kind:
        raise LorateError(
            f"{evaluation.name} holds {evaluation.kind} records, but {train.name} holds {train.kind} records."
        )
    known = set(train.labels())
    for record in evaluation.records:
        if known and record.fields["label"] not in known:
            raise LorateError(f"{record.where}: the label {record.fields['label']!r} does not occur in {train.name}.")
    held_out = {record.identity for record in evaluation.records}
    kept = [record for record in train.records if record.identity not in held_out]
    if not kept:
        raise LorateError(f"Every record of {train.name} is also in {evaluation.name}: none is left to train on.")
    parts = (_grouped(kept, seed), _grouped(evaluation.records, seed))
    return [r for group in parts[0] for r in group], [r for group in parts[1] for r in group]


def _grouped(records: list[Record], seed: int) -> list[list[Record]]:
    """Groups of one identity in the order of the rule."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = hashlib.sha256(record.identity.encode("utf-8")).hexdigest()
        groups.setdefault(key, []).append(record)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    return [groups[key] for key in order]
