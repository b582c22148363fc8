"""Read the training loss from a model's forward, on the scale that is trained on."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorate.optim import LoraGradientDescent


class LossReader:
    r"""Tell an optimizer the training loss of every step, though nobody passes it on.

    Trainers scale the loss that a model returns before they differentiate it: by the number of micro-batches, or not
    at all where the model has done so, by the number of processes, by the loss scale of float16. So the factor is not
    assumed but read: the gradient that arrives at the returned loss is the factor itself. The training loss is the
    sum over micro-batches of loss times factor.

    Also counts what was trained on.

    Attributes:
        samples: samples of the micro-batches since the last `take`.
        loss_scale: tells the float16 loss scale in force; 1 without one.

    Args:
        model: the model whose forward returns the loss: as ``output.loss``, ``output["loss"]`` or first in a tuple.
        optimizer: gets the losses through ``record_loss``.
    """

    def __init__(self, model: nn.Module, optimizer: LoraGradientDescent) -> None:
        self.optimizer = optimizer
        self.loss_scale: Callable[[], float] = lambda: 1.0
        self.samples = 0
        self._tokens: list[Tensor | int] = []
        hook = torch.compiler.disable(self._forward_hook)  # type: ignore[no-untyped-call]
        self._handle = model.register_forward_hook(hook, with_kwargs=True)

    def take(self) -> tuple[int, int]:
        """Samples and tokens since the last call."""
        samples, tokens = self.samples, sum(int(count) for count in self._tokens)
        self.samples = 0
        self._tokens.clear()
        return samples, tokens

    def remove(self) -> None:
        """Take the hook off the model."""
        self._handle.remove()

    def _forward_hook(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        loss = returned_loss(output)
        if not (model.training and torch.is_grad_enabled()) or loss is None or not loss.requires_grad:
            return
        value = loss.detach()

        def record(factor: Tensor) -> None:
            self.optimizer.record_loss(value * factor.detach() / self.loss_scale())

        loss.register_hook(record)  # type: ignore[no-untyped-call]
        self._count(args, kwargs)

    def _count(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The first tensor is the batch; text has an attention mask, or else every position counts."""
        inputs = [value for value in (*kwargs.values(), *args) if isinstance(value, Tensor) and value.dim() > 0]
        if inputs:
            self.samples += inputs[0].shape[0]
        if isinstance(kwargs.get("attention_mask"), Tensor):
            self._tokens.append(kwargs["attention_mask"].sum())
        elif isinstance(kwargs.get("input_ids"), Tensor):
            self._tokens.append(kwargs["input_ids"].numel())


def returned_loss(output: Any) -> Tensor | None:
    """The scalar loss in what a model returned, or None if there is none."""
    if isinstance(output, Mapping):
        loss = output.get("loss")
    elif isinstance(output, tuple) and output:
        loss = output[0]
    else:
        loss = getattr(output, "loss", None)
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
