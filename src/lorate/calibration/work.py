"""One run of a sweep, from plain values to plain values: a user's own model and data in a plain loop."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lorate.calibration.plan import own_config
from lorate.errors import LorateError
from lorate.geometry import squared_norms
from lorate.sweep import Divergence
from lorate.training import TrainConfig
from lorate.training.evaluation import evaluate
from lorate.training.preparation import prepare
from lorate.training.trainers import build_trainer


class OwnTask:
    """Model (with its adapters, in training mode) and data as ``lorate train`` prepares them.

    Raises:
        LorateError: model or data of the options cannot be used.
    """

    def __init__(self, config: TrainConfig) -> None:
        prepared = prepare(config)
        self._judged = prepared.judged
        if self._judged == "pairs":
            raise LorateError(f"{prepared.data.name} holds preference records, on which alpha cannot be calibrated.")
        self.model: Any = prepared.model.train()
        with TemporaryDirectory() as place:  # the Trainer wants one and writes nothing here
            self._trainer: Any = build_trainer(prepared, Path(place))

    def batches(self) -> Iterator[Any]:
        """The Trainer's own batches, pass after pass."""
        loader = self._trainer.get_train_dataloader()
        while True:
            yield from loader

    def validation_loss(self) -> float:
        """Mean over the held-out records, as ``lorate train`` computes it."""
        return float(evaluate(self._trainer, self._judged).losses.mean())


def train_point(
    own: Mapping[str, Any], rank: int, alpha: float, lr: float, steps: int, batch_size: int, seed: int
) -> dict[str, Any]:
    """Train adapters under AdamW and measure the held-out loss; a run that diverges ends early.

    Arguments as in `lorate.calibration.Sweep`, for one run; the seed is that of the adapters' start, the order of the
    data, and what is held out.

    Returns:
        ``loss``, None if the run diverged; ``first_loss`` of the first batch.
    """
    task = OwnTask(own_config(own, rank, alpha, batch_size, seed))
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    divergence, first = Divergence(), math.nan
    for step, batch in zip(range(steps), task.batches(), strict=False):
        optimizer.zero_grad()
        loss = task.model(**batch).loss
        loss.backward()
        value = float(loss.detach())
        first = value if step == 0 else first
        # gradients whose squares overflow stop AdamW, which would look like a run that is stable
        overflow = not squared_norms([p.grad for p in trained if p.grad is not None]).isfinite().all()
        if divergence.fault(value) or overflow:
            return {"loss": None, "first_loss": first}
        optimizer.step()
    held_out = task.validation_loss()
    return {"loss": held_out if math.isfinite(held_out) else None, "first_loss": first}
