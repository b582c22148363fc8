"""Read the training loss from a model's forward, on the scale that is trained on."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorate.optim import LoraOptimizer, Replay


class LossReader:
    r"""Tell an optimizer the training loss of every step, though nobody passes it on.

    Trainers scale the loss before they differentiate it: by the number of micro-batches, or of trained tokens, by the
    number of processes, by the loss scale of float16. So nothing is assumed and the factor is read: the training loss
    is linear in what the model returned (its ``loss``, or the tokens' ``log_probs`` in TRL), and a linear function is
    the inner product of its argument with its gradient,

    $$ J = \sum_{\text{micro-batches}} \langle x, \partial J / \partial x \rangle . $$

    Also counts what was trained on, and tells rule ``auto`` how to evaluate the last micro-batch again: the model's
    forward is repeated and what it returns goes through the same linear function.

    Attributes:
        loss_scale: tells the float16 loss scale in force; 1 without one.

    Args:
        model: the model whose forward returns ``loss`` (or a tuple that begins with it) or ``log_probs``.
        optimizer: gets the losses through ``record_loss``.
        is_linear: whether the training loss is linear in what the model returns; if not, nothing is read.
    """

    def __init__(self, model: nn.Module, optimizer: LoraOptimizer, *, is_linear: bool = True) -> None:
        self.optimizer = optimizer
        self.is_linear = is_linear
        self.loss_scale: Callable[[], float] = lambda: 1.0
        self._samples = 0
        self._micro_batches = 0
        self._tokens: list[Tensor | int] = []
        hook = torch.compiler.disable(self._forward_hook)  # type: ignore[no-untyped-call]
        self._handle = model.register_forward_hook(hook, with_kwargs=True)

    def take(self) -> tuple[int, int]:
        """Samples, and tokens without padding, since the last call."""
        samples, tokens = self._samples, sum(int(count) for count in self._tokens)
        self._samples = self._micro_batches = 0
        self._tokens.clear()
        return samples, tokens

    def remove(self) -> None:
        """Take the hook off the model."""
        self._handle.remove()

    def _forward_hook(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not (model.training and torch.is_grad_enabled()):
            return
        self._count(args, kwargs)
        if not self.is_linear:
            return
        for name in ("loss", "log_probs"):  # the gradient reaches the one that is trained on
            value = returned(output, name)
            if value is not None and value.requires_grad:
                self._read_at_backward(value, name)

    def _read_at_backward(self, value: Tensor, name: str) -> None:
        kept = value.detach()

        def record(gradient: Tensor | None) -> None:
            if gradient is None:  # DistributedDataParallel passes on what is not trained on, too
                return
            weights = gradient.detach().double() / self.loss_scale()
            share = (kept.double() * weights).sum()
            self.optimizer.record_loss(share)
            self._micro_batches += 1
            if "last-line" in self.optimizer.rule.needs:
                self._offer_replay(self.optimizer, name, weights, share)

        value.register_hook(record)  # type: ignore[no-untyped-call]

    def _offer_replay(self, optimizer: LoraOptimizer, name: str, weights: Tensor, share: Tensor) -> None:
        def again() -> Tensor:
            assert optimizer.forward is not None
            value = returned(optimizer.forward.again(), name)
            assert value is not None
            return (value.double() * weights).sum()

        optimizer.replay = Replay(again, part=share if self._micro_batches > 1 else None)

    def _count(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The first tensor is the batch; text has an attention mask, or else every position counts."""
        inputs = [value for value in (*kwargs.values(), *args) if isinstance(value, Tensor) and value.dim() > 0]
        if inputs:
            self._samples += inputs[0].shape[0]
        if isinstance(kwargs.get("attention_mask"), Tensor):
            self._tokens.append(kwargs["attention_mask"].sum())
        elif isinstance(kwargs.get("input_ids"), Tensor):
            self._tokens.append(kwargs["input_ids"].numel())


def is_linear(args: Any) -> bool:
    """Whether a trainer with these arguments trains on a linear function of what its model returns.

    Of TRL's trainers only SFTTrainer does: DPO, GRPO and their kind pass it through a sigmoid or a minimum first.
    """
    own = {kind.__name__ for kind in type(args).__mro__ if kind.__module__.startswith("trl.")}
    return not own or "SFTConfig" in own


def returned(output: Any, name: str) -> Tensor | None:
    """A tensor in what a model returned, by name; a tuple has its loss in front."""
    if isinstance(output, Mapping):
        value = output.get(name)
    elif isinstance(output, tuple):
        value = output[0] if name == "loss" and output else None
    else:
        value = getattr(output, name, None)
    return value if isinstance(value, Tensor) and (name != "loss" or value.numel() == 1) else None
