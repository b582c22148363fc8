"""A user's own model and data as a task: what ``lorate train`` prepares, for a plain loop."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lorate.experiments.workloads import AdapterSpec, Batch
from lorate.tasks import example_losses
from lorate.training import TrainConfig
from lorate.training.preparation import prepare
from lorate.training.trainers import build_trainer


class OwnTask:
    """See `lorate.experiments.workloads.Workload`; rank, alpha, seed and batch size are those of the options.

    Args:
        config: the options; its rule and its steps are not used.

    Raises:
        LorateError: model or data cannot be used.
    """

    name = "own"

    def __init__(self, config: TrainConfig) -> None:
        self._model: nn.Module = (prepared := prepare(config)).model
        with tempfile.TemporaryDirectory() as place:  # the Trainer wants one and writes nothing here
            self._trainer: Any = build_trainer(prepared, Path(place))

    def model(self, adapter: AdapterSpec | None, seed: int) -> nn.Module:
        """The one model of this task, with its adapter."""
        return self._model.train()

    def batches(self, size: int | None, seed: int) -> Iterator[Batch]:
        """The Trainer's own batches, pass after pass."""
        loader = self._trainer.get_train_dataloader()
        while True:
            yield from loader

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The model's own loss."""
        loss: Tensor = model(**batch).loss
        return loss

    def validation_loss(self, model: nn.Module) -> float:
        """Mean over the held-out examples, as ``lorate train`` tells it."""
        return float(example_losses(model, self._trainer.get_eval_dataloader()).mean())
