"""Held-out loss before, during and after, example by example, so that a change has a standard error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks
from lorate.jsonl import JsonlWriter
from lorate.tasks import example_losses
from lorate.training.processes import together


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
    """Put the losses of the processes together, which take turns at batches of one size.

    The last round begins again with the first examples, so that all processes have something to do.

    >>> in_order([torch.tensor([1.0, 2.0, 5.0, 6.0]), torch.tensor([3.0, 4.0, 7.0, 1.0])], size=2)
    tensor([1., 2., 3., 4., 5., 6., 7., 1.])
    """
    if len(shares) == 1:
        return shares[0]
    return torch.stack([share.view(-1, size) for share in shares], dim=1).flatten()


def by_record(losses: Tensor, records: Sequence[int]) -> Tensor:
    """Mean loss of each record; one may have several sequences, which depend on each other.

    >>> by_record(torch.tensor([1.0, 3.0, 5.0]), [0, 0, 2])
    tensor([2., 5.])
    """
    _, index = torch.unique(torch.tensor(list(records)), return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, dtype=losses.dtype).index_add_(0, index, losses)
    return sums / torch.bincount(index)


class Evaluator(TrainerCallback):
    """Evaluate the trainer's held-out data when asked, and every few steps of training.

    Every process evaluates its share of the examples, and all get all losses. The random state is put back afterwards
    (a data loader draws a seed even when it does not shuffle), so evaluation does not change the run.

    Args:
        trainer: its evaluation data and model are used.
        writer: gets ``{"step", "eval_loss", "eval_loss_se"}``; None in processes that do not write.
        every: steps between evaluations during training.
        listen: called with step, loss and standard error.
    """

    def __init__(
        self, trainer: Any, writer: JsonlWriter | None, every: int, listen: Callable[[int, float, float], None]
    ) -> None:
        self._trainer = trainer
        self._writer = writer
        self._every = every
        self._listen = listen

    def losses(self) -> Tensor:
        """Losses of the held-out examples now."""
        with torch.random.fork_rng(), together():
            own = example_losses(self._trainer.model, self._trainer.get_eval_dataloader())
        size = self._trainer.args.per_device_eval_batch_size
        losses = in_order(ranks.everyones(own), size)[: len(self._trainer.eval_dataset)]
        rows = self._trainer.eval_dataset
        return by_record(losses, rows["record"]) if "record" in rows.column_names else losses

    def evaluate(self, step: int) -> Tensor:
        """Losses of the held-out examples now; their mean is recorded under ``step``."""
        losses = self.losses()
        mean, error = float(losses.mean()), standard_error(losses)
        if self._writer is not None:
            self._writer.write({"step": step, "eval_loss": mean, "eval_loss_se": error})
        self._listen(step, mean, error)
        return losses

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate in between; the last step is evaluated by whoever ends the run."""
        if state.global_step % self._every == 0 and state.global_step < state.max_steps:
            self.evaluate(state.global_step)
