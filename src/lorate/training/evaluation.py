"""Held-out loss and other figures, example by example, so that a change has a standard error."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorate import ranks
from lorate.tasks import Judged, example_scores, pair_scores
from lorate.tasks.progress import Advance
from lorate.training.processes import together

COLUMNS = 6
"""Of the table of `Scores`."""


@dataclass(frozen=True)
class Change:
    """How the held-out loss changed, from the same examples before and after.

    Attributes:
        before: mean loss before training.
        after: mean loss after.
        standard_error: of the mean difference; NaN for a single example.
        examples: how many.
    """

    before: float
    after: float
    standard_error: float
    examples: int

    @property
    def relative(self) -> float:
        """Change as a part of the loss before; negative is better."""
        return (self.after - self.before) / abs(self.before) if self.before else math.nan

    @property
    def certainty(self) -> str:
        """How far the difference of the means can be trusted, in words.

        >>> Change(3.0, 1.5, 0.5, 2).certainty
        'standard error 0.5000, 2 examples'
        >>> Change(3.0, 1.5, math.nan, 1).certainty
        'of a single example, so without a standard error'
        """
        if self.examples == 1:
            return "of a single example, so without a standard error"
        return f"standard error {self.standard_error:.4f}, {self.examples} examples"


def paired_change(before: Tensor, after: Tensor) -> Change:
    """Compare the losses of the same examples.

    >>> paired_change(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]))
    Change(before=3.0, after=1.5, standard_error=0.5, examples=2)
    """
    return Change(float(before.mean()), float(after.mean()), standard_error(after - before), len(before))


def standard_error(values: Tensor) -> float:
    """Standard error of a mean; NaN for fewer than two values."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def in_order(shares: Sequence[Tensor], size: int) -> Tensor:
    """Put what the processes found together, which take turns at batches of one size.

    The last round begins again with the first examples, so that all processes have something to do.

    >>> in_order([torch.tensor([1.0, 2.0, 5.0, 6.0]), torch.tensor([3.0, 4.0, 7.0, 1.0])], size=2)
    tensor([1., 2., 3., 4., 5., 6., 7., 1.])
    """
    if len(shares) == 1:
        return shares[0]
    return torch.stack([share.view(-1, size, *share.shape[1:]) for share in shares], dim=1).flatten(0, 2)


def by_record(losses: Tensor, records: Tensor) -> Tensor:
    """Mean loss of each record; one may have several sequences, which depend on each other.

    >>> by_record(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]))
    tensor([2., 5.])
    """
    _, index = torch.unique(records, return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, dtype=losses.dtype).index_add_(0, index, losses)
    return sums / torch.bincount(index)


@dataclass(frozen=True)
class Scores:
    """What `lorate.tasks.example_scores` found on the held-out examples.

    Attributes:
        table: its rows, of all processes, and behind each the number of the record that the example is from.
        judged: what an example is: tokens of a language model, a class, or a pair of answers.
    """

    table: Tensor
    judged: Judged

    @property
    def losses(self) -> Tensor:
        """Mean loss of each record."""
        return by_record(self.table[:, 0], self.table[:, 5])

    def figures(self) -> dict[str, float]:
        """Accuracy and macro F1 of a classifier; perplexity and accuracy over the tokens of a language model.

        Of pairs: how often the chosen answer has the higher reward, and by how much on average.

        >>> rows = [[0.0, 1, 1, 0, 0, 0], [0.0, 0, 1, 1, 0, 1], [0.0, 1, 1, 1, 1, 2]]
        >>> {name: round(value, 3) for name, value in Scores(torch.tensor(rows), "classes").figures().items()}
        {'accuracy': 0.667, 'macro_f1': 0.667}
        """
        losses, right, targets, label, found, _ = self.table.unbind(1)
        accuracy = float(right.sum() / targets.sum())
        if self.judged == "pairs":
            margins = -torch.special.expm1(losses.clamp_min(1e-12)).log()
            return {"reward_accuracy": accuracy, "reward_margin": float(margins.mean())}
        if self.judged == "tokens":
            return {"perplexity": float(((losses * targets).sum() / targets.sum()).exp()), "token_accuracy": accuracy}
        classes = set(label.tolist()) | set(found.tolist())
        scores = [
            float(2 * ((label == c) & (found == c)).sum() / ((label == c).sum() + (found == c).sum())) for c in classes
        ]
        return {"accuracy": accuracy, "macro_f1": sum(scores) / len(scores)}


def evaluate(trainer: Any, judged: Judged, advance: Advance = lambda done, total, unit="": None) -> Scores:
    """Scores of a trainer's held-out examples now.

    Every process evaluates its share of the examples, and all get all scores. The random state is put back afterwards
    (a data loader draws a seed even when it does not shuffle), so evaluation does not change the run.

    Args:
        trainer: its evaluation data and model are used.
        judged: what the examples are.
        advance: hears of every batch.
    """
    with torch.random.fork_rng(), together():
        loader = _rows_of_examples(trainer)
        batches = _counted(loader, len(loader), advance)
        own = pair_scores(trainer, batches) if judged == "pairs" else example_scores(trainer.model, batches)
    size = trainer.args.per_device_eval_batch_size
    table = in_order(ranks.everyones(own), size)[: len(trainer.eval_dataset)]
    rows = trainer.eval_dataset
    records = rows["record"] if "record" in rows.column_names else range(len(rows))
    return Scores(torch.cat([table, torch.tensor([*records], dtype=table.dtype)[:, None]], dim=1), judged)


def _rows_of_examples(trainer: Any) -> Any:
    """The held-out batches with a row for each example, also where packed training puts all in one row."""
    collator = trainer.data_collator
    try:
        if getattr(collator, "padding_free", False):
            trainer.data_collator = replace(collator, padding_free=False)
        return trainer.get_eval_dataloader()
    finally:
        trainer.data_collator = collator


def _counted(batches: Iterable[Any], total: int, advance: Advance) -> Iterator[Any]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        advance(done, total)
