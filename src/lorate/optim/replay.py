"""Evaluate the loss of the last training batch once more, and leave no trace of it."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lorate import sharding
from lorate.hooks import attach


@dataclass(frozen=True)
class RandomState:
    """Of all generators that a training pass may draw from."""

    torch: Tensor
    device: Tensor | None
    python: Any
    numpy: Any


class TrainingForward:
    """Notes of the forward passes that the gradients of a step came from: random state, precision.

    Args:
        model: whose passes are noted.
        layer: one of its layers; it sees the autocast in force.

    Attributes:
        model: as given.
        random_state: with which the first pass of this step began, if ``keeps_random_state`` was set, which takes time.
        keeps_random_state: whether the next pass notes it.
        dtype: in which the model computes.
    """

    def __init__(self, model: nn.Module, layer: nn.Module) -> None:
        self.model = model
        self.random_state: RandomState | None = None
        self.keeps_random_state = False
        self.dtype = torch.float32
        self._in_closure = False
        self._layer = layer
        self._device = next(model.parameters()).device
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Put the hooks on; nothing happens if they are on."""
        if not self._handles:
            self._handles = [
                attach(self.model.register_forward_pre_hook, self._note_pass),
                attach(self._layer.register_forward_pre_hook, self._note_precision),
            ]

    def forget(self) -> None:
        """Begin a new step."""
        self.random_state = None

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

    def _note_pass(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if self.keeps_random_state and self.random_state is None and torch.is_grad_enabled() and not self._in_closure:
            self.random_state = random_state(self._device)

    def _note_precision(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        kind = self._device.type
        if torch.is_autocast_enabled(kind):
            self.dtype = torch.get_autocast_dtype(kind)
        elif args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self.dtype = args[0].dtype


def random_state(device: torch.device) -> RandomState:
    """State of the generators that a model on this device, its data and its loss draw from."""
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return RandomState(torch.get_rng_state(), own, random.getstate(), np.random.get_state())


def restore(state: RandomState, device: torch.device) -> None:
    """Draw from there on."""
    torch.set_rng_state(state.torch)
    if state.device is not None:
        torch.cuda.set_rng_state(state.device, device)
    random.setstate(state.python)
    np.random.set_state(state.numpy)


@contextmanager
def without_trace(model: nn.Module, parameters: Iterable[Tensor], state: RandomState | None) -> Iterator[None]:
    """Parameters, gradients, buffers (batch-norm statistics) and random state are bit for bit the same afterwards.

    Inside there are no gradients yet.

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
    for parameter in kept:
        parameter.grad = None
    try:
        if state is not None:
            restore(state, device)
        yield
    finally:
        restore(now, device)
        sharding.reshard(model)
        torch._foreach_copy_(parts, values)
        for parameter, gradient in zip(kept, gradients, strict=True):
            parameter.grad = gradient
        for buffer, value in buffers:
            buffer.copy_(value)
