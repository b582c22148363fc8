"""The direction that whitens the rank side of each factor: SOAP, restricted to r."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lorate import sharding
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.optim.layout import Slot, gradients

SQUARES_MEMORY = 0.999
"""Decay of the second moments, as in Adam."""
BASIS_MEMORY = 0.99
"""Decay of the factors' Gram matrices."""
RELATIVE_EPSILON = 1e-6
"""Of a factor's typical root second moment, added to each: coordinates of rounding errors alone hardly move."""
Key = tuple[Any, ...]
LARGEST_SIDE = 256
"""A parameter whose shorter side is longer is not rotated: Adam's coordinates, without first moment."""
LONGEST = 1.0
"""Root mean square of a factor's D at most: a batch with a much larger gradient than those before goes no further."""
STAY = 1e-3
"""Of the old basis, mixed into the new one, so that not rounding decides where the gradients have a rank below r."""


class RankWhitening:
    r"""Adam without first moment, in the eigenbasis of the r × r Gram matrix of each factor's gradients.

    With the gradient h of a factor, its shorter side first (A as it is, B transposed):

    $$ C \leftarrow \mathrm{EMA}_{0.99}(h h^\top), \quad U \leftarrow \mathrm{qr}(C U), \quad
       v \leftarrow \mathrm{EMA}_{0.999}\big((U^\top h)^2\big), \quad
       D = -U\,\frac{U^\top h}{\sqrt{v} + \varepsilon}. $$

    U follows the eigenvectors of C by one step of orthogonal iteration. When it turns, with $P = U'^\top U$, the
    moments turn with it, $v \leftarrow (P \circ P)\,v$, as those of uncorrelated coordinates would. D has a root mean
    square of at most 1 in each factor: without momentum, a batch that is much steeper than those before would go too
    far. A gradient that is zero throughout leaves a factor's memory as it is. The scale of the loss cancels.

    Source: SOAP, Vyas et al. 2024, arXiv 2409.11321, with one side only and turned moments.
    """

    kind = "RankWhitening"

    def __init__(self) -> None:
        self._stacks: dict[Key, _Stack] = {}

    def __call__(self, slots: Sequence[Slot]) -> list[Tensor]:
        """D at the parameters' gradients, which are only read; a gradient that is missing counts as zero."""
        whole = gradients(slots)
        result: list[Tensor] = [torch.empty(0)] * len(slots)
        for key, places in _by_shape(whole).items():
            h = torch.stack([_short_side_first(whole[i]) for i in places])
            if key not in self._stacks:
                self._stacks[key] = _Stack.start(h)
            for i, direction in zip(places, self._stacks[key].direction(h).unbind(), strict=True):
                result[i] = sharding.like(_as_it_was(direction, whole[i]), slots[i].parameter)
        return result

    def state_dict(self, slots: Sequence[Slot]) -> dict[str, Any]:
        """What is remembered of each parameter, by its place in the list."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, places in _by_shape(_shapes_of(slots)).items():
            for name, stacked in vars(self._stacks[key]).items() if key in self._stacks else ():
                for i, tensor in zip(places, stacked.unbind(), strict=True):
                    state.setdefault(i, {})[name] = tensor
        return {"state": state, "param_groups": []}

    def load_state_dict(self, state: dict[str, Any], slots: Sequence[Slot]) -> None:
        """Restore what `state_dict` gave, for the parameters as they are now."""
        self._stacks = {
            key: _Stack(
                **{name: torch.stack([state["state"][i][name] for i in places]) for name in state["state"][places[0]]}
            )
            for key, places in _by_shape(_shapes_of(slots)).items()
            if places[0] in state["state"]
        }


@dataclass
class _Stack:
    """What is remembered of all factors of one shape, in one batch.

    Attributes:
        gram: L, ``[n, r, r]``; empty where nothing is turned, as the basis is.
        basis: U, ``[n, r, r]``, columns are coordinates.
        squares: running means of the squares in these coordinates, ``[n, r, m]``, not yet divided by their weight.
        weight: what these means have seen, ``[n, 1, 1]``.
    """

    gram: Tensor
    basis: Tensor
    squares: Tensor
    weight: Tensor

    @classmethod
    def start(cls, h: Tensor) -> Self:
        """Nothing seen, and the parameters' own coordinates."""
        n = len(h)
        r = h.shape[1] if _is_turned(h) else 0  # a basis of nothing
        gram = h.new_zeros(n, r, r)
        basis = torch.eye(r, dtype=h.dtype, device=h.device).expand(n, r, r).clone()
        return cls(gram, basis, torch.zeros_like(h), h.new_zeros(n, 1, 1))

    def direction(self, h: Tensor) -> Tensor:
        """Take the gradients in; D."""
        tiny = torch.finfo(h.dtype).tiny
        seen = (h != 0).any(2, keepdim=True).any(1, keepdim=True).to(h.dtype)
        turned = _is_turned(h)
        if turned:
            self.gram = torch.lerp(self.gram, h @ h.mT, (1 - BASIS_MEMORY) * seen)
            self._turn(seen.bool(), tiny)
            h = self.basis.mT @ h
        share = (1 - SQUARES_MEMORY) * seen
        self.squares = torch.lerp(self.squares, h.square(), share)
        self.weight = torch.lerp(self.weight, torch.ones_like(self.weight), share)
        squares = self.squares / self.weight.clamp_min(tiny)
        typical = squares.mean((1, 2), keepdim=True).sqrt()
        direction = -h / (squares.sqrt() + RELATIVE_EPSILON * typical).clamp_min(tiny)
        length = direction.square().mean((1, 2), keepdim=True).sqrt()
        direction = direction / (length / LONGEST).clamp_min(1)
        return self.basis @ direction if turned else direction

    def _turn(self, seen: Tensor, tiny: float) -> None:
        """One step of orthogonal iteration; the moments go with it."""
        size = self.gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(tiny)
        basis = torch.linalg.qr((self.gram / size) @ self.basis + STAY * self.basis).Q
        squares = (basis.mT @ self.basis).square() @ self.squares
        self.squares = torch.where(seen, squares, self.squares)
        self.basis = torch.where(seen, basis, self.basis)


def _by_shape(tensors: Sequence[Tensor]) -> dict[Key, list[int]]:
    """Places of the tensors that are treated alike."""
    places: dict[Key, list[int]] = defaultdict(list)
    for i, tensor in enumerate(tensors):
        places[(*_short_shape(tensor), tensor.dtype, tensor.device)].append(i)
    return places


def _shapes_of(slots: Sequence[Slot]) -> list[Tensor]:
    return [slot.parameter.detach() for slot in slots]


def _short_shape(tensor: Tensor) -> tuple[int, int]:
    rows = tensor.shape[0] if tensor.ndim > 1 else 1
    columns = tensor.numel() // max(rows, 1)
    return min(rows, columns), max(rows, columns)


def _short_side_first(tensor: Tensor) -> Tensor:
    matrix = tensor.reshape(tensor.shape[0] if tensor.ndim > 1 else 1, -1).to(accumulation_dtype(tensor.dtype))
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _as_it_was(matrix: Tensor, tensor: Tensor) -> Tensor:
    rows = tensor.shape[0] if tensor.ndim > 1 else 1
    return (matrix if matrix.shape[0] == rows else matrix.mT).reshape(tensor.shape)


def _is_turned(h: Tensor) -> bool:
    return 1 < h.shape[1] <= LARGEST_SIDE
