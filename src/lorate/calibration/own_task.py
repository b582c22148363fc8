"""A user's own model and data as a task: what ``lorate train`` prepares, for a plain loop."""

import tempfile
from collections.abc import Iterator
from typing import Any

from lorate.integrations.callback import LorateCallback
from lorate.runs import RunDirectory
from lorate.tasks import example_losses
from lorate.training import TrainConfig
from lorate.training.preparation import prepare
from lorate.training.trainers import build_trainer


class OwnTask:
    """Model and data of the options; rule and steps are not used.

    Attributes:
        model: with its adapters, in training mode.

    Args:
        config: the options.

    Raises:
        LorateError: model or data cannot be used.
    """

    def __init__(self, config: TrainConfig) -> None:
        prepared = prepare(config)
        self.model: Any = prepared.model.train()
        with tempfile.TemporaryDirectory() as place:  # the Trainer wants one and writes nothing here
            self._trainer: Any = build_trainer(config, prepared, RunDirectory(place), LorateCallback())

    def batches(self) -> Iterator[Any]:
        """The Trainer's own batches, pass after pass."""
        loader = self._trainer.get_train_dataloader()
        while True:
            yield from loader

    def validation_loss(self) -> float:
        """Mean over the held-out examples, as ``lorate train`` computes it."""
        return float(example_losses(self.model, self._trainer.get_eval_dataloader()).mean())
