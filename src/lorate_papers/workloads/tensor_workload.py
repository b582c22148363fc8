"""A workload whose data lies in memory and whose model is copied from a template."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.extras import require
from lorate_papers.workloads.workload import AdapterSpec, Batch


def own_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that a transformers model computes itself when it is given labels: a mean over the batch."""
    loss: Tensor = model(**batch).loss
    return loss


@dataclass(frozen=True, eq=False)
class TensorWorkload:
    """See `lorate_papers.workloads.Workload`."""

    name: str  # of the workload
    template: nn.Module  # the base model; never trained, only copied
    targets: tuple[str, ...]  # names of the layers that LoRA adapts, as PEFT's ``target_modules`` takes them
    train: Batch  # the training set
    held_out: Batch  # the held-out set
    batch_loss: Callable[[nn.Module, Batch], Tensor] = own_loss  # mean loss of a model on a batch
    # L of the full-batch training loss in the adapted weights, where it is known in closed form
    smoothness: float | None = None
    chunk: int = 32  # examples that are evaluated at once on the held-out set

    def model(self, adapter: AdapterSpec | None, seed: int) -> nn.Module:
        """A copy of the template, with adapters that start from ``seed``, or with every weight trainable."""
        model = copy.deepcopy(self.template)
        if adapter is None:
            return model.requires_grad_(True).train()
        peft = require("peft", extra="hf")
        config = peft.LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            use_rslora=adapter.use_rslora,
            init_lora_weights="pissa" if adapter.pissa else True,
            target_modules=list(self.targets),
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # PEFT asks
            torch.manual_seed(seed)
            adapted: nn.Module = peft.get_peft_model(model, config)
            if adapter.init_std is not None:
                for pair in find_pairs(adapted):
                    nn.init.normal_(pair.A, std=adapter.init_std)
        return adapted.train()

    def batches(self, size: int | None, seed: int) -> Iterator[Batch]:
        """Reshuffled in each pass; examples that do not fill a last batch wait for the next pass.

        Raises:
            LorateError: a size below 1, or above the size of the training set.
        """
        if size is not None and not 1 <= size <= examples(self.train):
            raise LorateError(
                f"{self.name} has {examples(self.train)} training examples: a batch holds 1 to that many, not {size}."
            )
        return self._batches(size, torch.Generator().manual_seed(seed))

    def _batches(self, size: int | None, generator: torch.Generator) -> Iterator[Batch]:
        while size is None:
            yield self.train
        while True:
            for places in torch.split(torch.randperm(examples(self.train), generator=generator), size):
                if len(places) == size:
                    yield select(self.train, places)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean training loss of the batch."""
        return self.batch_loss(model, batch)

    def validation_loss(self, model: nn.Module) -> float:
        """Mean over all held-out examples; nan or inf where the model has diverged."""
        count = examples(self.held_out)
        with evaluating(model):
            parts = [
                float(self.batch_loss(model, select(self.held_out, places))) * len(places)
                for places in torch.split(torch.arange(count), self.chunk)
            ]
        return math.fsum(parts) / count if all(map(math.isfinite, parts)) else sum(parts) / count

    def accuracy(self, model: nn.Module) -> float | None:
        """Share of the held-out examples whose class is right; None unless a transformers model classifies."""
        if self.batch_loss is not own_loss or self.held_out["labels"].ndim != 1:
            return None
        count, right = examples(self.held_out), 0
        with evaluating(model):
            for places in torch.split(torch.arange(count), self.chunk):
                batch = select(self.held_out, places)
                right += int((model(**batch).logits.argmax(-1) == batch["labels"]).sum())
        return right / count


def examples(batch: Batch) -> int:
    """How many examples a batch holds."""
    return len(next(iter(batch.values())))


def select(batch: Batch, places: Tensor) -> Batch:
    """The examples at these places."""
    return {name: values[places] for name, values in batch.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; mode of every module and random state come back at the end."""
    modes: dict[Any, bool] = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
