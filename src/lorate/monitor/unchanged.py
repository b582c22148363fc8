"""That a run minimised one function: the adapters stayed as they were between two steps, and so did the data."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorate import sharding
from lorate.errors import LorateError
from lorate.hooks import attach


class Unchanged:
    """Compares the parameters at the beginning of each step with those that the step before left, bit for bit.

    One copy of the parameters is kept.

    Args:
        optimizer: any torch optimizer, after a step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._changed: Tensor | None = None
        self._copies = [parameter.clone() for parameter in parameters(optimizer)]
        self._handle = attach(optimizer.register_step_pre_hook, self._compare)

    @torch.no_grad()
    def _compare(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        differences = torch._foreach_sub(parameters(optimizer), self._copies)
        # the largest entry: squares of small numbers would vanish in 16 bits
        largest = torch._foreach_norm(differences, torch.inf)
        self._changed = torch.stack([value.float() for value in largest]) != 0

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> bool | None:
        """Note where the step has ended.

        Returns:
            Whether the parameters had changed before it began; None if that was not seen.
        """
        changed, self._changed = self._changed, None
        torch._foreach_copy_(self._copies, parameters(optimizer))
        return None if changed is None else bool(changed.any())

    def remove(self) -> None:
        """Take the hook off the optimizer."""
        self._handle.remove()


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What an optimizer trains, this rank's part of it."""
    return sharding.local(parameter.detach() for group in optimizer.param_groups for parameter in group["params"])


def data_digest(data: Any) -> str:
    """A short hash of a batch: the same for the same numbers in the same order.

    Args:
        data: tensors, arrays, numbers, texts, or lists and dictionaries of them.

    Raises:
        LorateError: something else.

    >>> data_digest({"x": torch.ones(3), "y": [1, "a"]}) == data_digest({"x": torch.ones(3), "y": [1, "a"]})
    True
    >>> data_digest(torch.ones(3)) == data_digest(torch.ones(3, 1))
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, data)
    return digest.hexdigest()


def _feed(digest: "hashlib.blake2b", data: Any) -> None:
    if isinstance(data, Tensor):
        flat = data.detach().cpu().contiguous()
        digest.update(f"tensor {flat.dtype} {tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(data, np.ndarray | np.generic):
        digest.update(f"array {data.dtype} {data.shape}".encode())
        digest.update(np.ascontiguousarray(data).tobytes())
    elif isinstance(data, Mapping):
        digest.update(f"mapping {len(data)}".encode())
        for key, value in data.items():
            _feed(digest, key)
            _feed(digest, value)
    elif isinstance(data, str | bytes | int | float | None):
        digest.update(repr(data).encode() + b"\0")
    elif isinstance(data, Sequence):
        digest.update(f"sequence {len(data)}".encode())
        for value in data:
            _feed(digest, value)
    else:
        raise LorateError(
            f"the data of a step must be tensors, arrays, numbers or strings, or lists and dictionaries of them, to be "
            f"told apart; got {type(data).__name__}"
        )
