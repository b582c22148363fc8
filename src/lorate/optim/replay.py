"""Evaluate the loss of the last training batch once more, and leave no trace of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lorate import sharding
from lorate.hooks import attach

Loss = Callable[[], Tensor]
RandomState = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Replay:
    """How to evaluate the last training batch again.

    Attributes:
        function: evaluates the loss at the weights as they are, without gradients.
        part: the loss that the same function gave in training, if it covers only a part of the step's batch (one of
            several micro-batches), scaled as it was trained on; None if it covers the whole.
    """

    function: Loss
    part: Tensor | float | None = None

    @classmethod
    def of(cls, given: "Loss | Replay | None") -> "Replay | None":
        """A function that covers the whole batch, if no more is said."""
        return given if given is None or isinstance(given, Replay) else cls(given)


class TrainingForward:
    """Notes of the last forward pass that gradients came from: its inputs, its random state, its precision.

    Args:
        model: whose passes are noted.
        layer: one of its adapted layers; it sees the autocast in force.

    Attributes:
        model: as given.
        inputs: of the last pass that gradients came from; None if it is forgotten.
        random_state: with which that pass began, if ``keeps_random_state`` was set, which takes time.
        keeps_random_state: whether the next pass notes it.
        dtype: in which the model computes.
    """

    def __init__(self, model: nn.Module, layer: nn.Module) -> None:
        self.model = model
        self.inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.random_state: RandomState | None = None
        self.keeps_random_state = False
        self.dtype = torch.float32
        self._in_closure = False
        self._layer = layer
        self._device = next(layer.parameters()).device
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Put the hooks on; nothing happens if they are on."""
        if not self._handles:
            self._handles = [
                attach(self.model.register_forward_pre_hook, self._note_pass, with_kwargs=True),
                attach(self._layer.register_forward_pre_hook, self._note_precision),
            ]

    def again(self) -> Any:
        """Run the pass again at the weights as they are; what it returns."""
        assert self.inputs is not None
        args, kwargs = self.inputs
        return self.model(*args, **kwargs)

    def forget(self) -> None:
        """Let go of the batch."""
        self.inputs = self.random_state = None

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def of_closure(self) -> Iterator[None]:
        """A closure runs inside: it repeats its passes by itself, from the random state that it begins with."""
        self.random_state = random_state(self._device) if self.keeps_random_state else None
        self._in_closure = True
        try:
            yield
        finally:
            self._in_closure = False

    def _note_pass(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and not self._in_closure:
            self.inputs = (args, dict(kwargs))  # always: a loss that is not finite is looked into at any step
            self.random_state = random_state(self._device) if self.keeps_random_state else None

    def _note_precision(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        kind = self._device.type
        if torch.is_autocast_enabled(kind):
            self.dtype = torch.get_autocast_dtype(kind)
        elif args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self.dtype = args[0].dtype


def random_state(device: torch.device) -> RandomState:
    """State of the generators that a model on this device draws from."""
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), own


@contextmanager
def without_trace(model: nn.Module, parameters: Iterable[Tensor], state: RandomState | None) -> Iterator[None]:
    """Parameters, gradients, buffers (batch-norm statistics) and random state are bit for bit the same afterwards.

    Args:
        model: its buffers are kept.
        parameters: those that may be moved inside, with their gradients.
        state: the random state to begin with, that of the training pass; None leaves it as it is.
    """
    kept = list(parameters)
    parts, gradients = sharding.local(p.detach() for p in kept), [p.grad for p in kept]
    values = [part.clone() for part in parts]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = kept[0].device
    now = random_state(device)
    sharding.reshard(model)
    try:
        if state is not None:
            _restore(state, device)
        yield
    finally:
        _restore(now, device)
        sharding.reshard(model)
        torch._foreach_copy_(parts, values)
        for parameter, gradient in zip(kept, gradients, strict=True):
            parameter.grad = gradient
        for buffer, value in buffers:
            buffer.copy_(value)


def _restore(state: RandomState, device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
