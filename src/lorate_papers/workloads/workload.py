"""What a workload is: a model to adapt, data to adapt it to, and a held-out set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from lorate.errors import LorateError

Batch = Mapping[str, Tensor]
"""Tensors by name that share their first dimension, one entry an example."""


@dataclass(frozen=True)
class AdapterSpec:
    """LoRA as PEFT builds it.

    Raises:
        LorateError: a rank below 1, or an alpha or a standard deviation that is not positive.

    >>> AdapterSpec(rank=8, alpha=16)
    AdapterSpec(rank=8, alpha=16, init_std=None, dropout=0.0, use_rslora=False, pissa=False)
    """

    rank: int  # r of every layer
    alpha: float  # the scaling is ``alpha / rank``, or ``alpha / sqrt(rank)`` with rsLoRA
    # standard deviation of A's normal start; None leaves PEFT's default, Kaiming's uniform start
    init_std: float | None = None
    dropout: float = 0.0  # probability of dropping an input of A
    use_rslora: bool = False  # scale with the square root of the rank
    pissa: bool = False  # start from the leading singular vectors of each weight, and freeze the rest of it

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise LorateError(f"The rank of an adapter must be at least 1, but it is {self.rank}.")
        if not self.alpha > 0:
            raise LorateError(f"The alpha of an adapter must be positive, but it is {self.alpha}.")
        if self.init_std is not None and not self.init_std > 0:
            raise LorateError(f"A's standard deviation must be positive, but it is {self.init_std}.")


class Workload(Protocol):
    """A small task that experiments, calibration and benchmarks run on; everything on the CPU in float32."""

    @property
    def name(self) -> str:
        """The name it was loaded by."""

    def model(self, adapter: AdapterSpec | None, seed: int) -> nn.Module:
        """A fresh model in training mode.

        Args:
            adapter: gives a PEFT model whose adapters, and nothing else, are trainable; None gives the base model
                with all its weights trainable.
            seed: of the adapters' start; torch's global generator is left alone.
        """

    def batches(self, size: int | None, seed: int) -> Iterator[Batch]:
        """Endless batches, reshuffled in each pass over the data.

        Args:
            size: examples in a batch; None gives the whole training set each time.
            seed: of the order, which depends on nothing else.
        """

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean training loss of the batch, a scalar with a graph."""

    def validation_loss(self, model: nn.Module) -> float:
        """Mean loss on the held-out set, always the same one, in evaluation mode; the model comes back as it was."""

    def accuracy(self, model: nn.Module) -> float | None:
        """Share of the held-out set whose class is right, likewise; None where there are no classes."""


def refuse_others(name: str, data: str | None, model: str | None) -> None:
    """Of a workload that takes neither.

    Raises:
        LorateError: data or model was given.
    """
    if data is not None or model is not None:
        raise LorateError(f"{name} has data and model of its own: leave out --data and --model.")
