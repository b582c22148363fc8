"""Param groups that remember which parameter is which factor of which layer.

The optimizer finds A and B through its groups at every step and keeps no list of tensors: sharding replaces the
entries of ``group["params"]`` after construction.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorate import sharding
from lorate.adapters import LoraPair, factor_blocks
from lorate.errors import LorateError
from lorate.rules import Rule

SMALL_LR = 0.01
"""A multiplier below this is meant as a learning rate."""

Role = tuple[int, str] | None
"""``(layer, "A")`` or ``(layer, "B")`` for a LoRA factor, None for any other parameter."""


@dataclass(frozen=True)
class Layer:
    """What stays of a LoRA pair without its tensors: plain values that survive pickling and sharding."""

    name: str
    scaling: float
    groups: int
    dropout: float = 0.0


@dataclass(frozen=True)
class Slot:
    """One parameter of the optimizer, seen at one step."""

    parameter: Tensor
    role: Role
    group: dict[str, Any]

    @property
    def gradient(self) -> Tensor | None:
        """Its gradient; a parameter that was frozen has none, whatever is left of an earlier one."""
        return self.parameter.grad if self.parameter.requires_grad else None

    @property
    def multiplier(self) -> float:
        """``lr`` times damping of its group, which anybody may have edited.

        Raises:
            LorateError: ``lr`` is not a finite number >= 0.
        """
        if not _is_multiplier(self.group["lr"]):
            raise LorateError(f"lr must be a finite number >= 0, and is {self.group['lr']!r} by now: what sets it?")
        return float(self.group["lr"]) * float(self.group["damping"])


def layers_of(pairs: Sequence[LoraPair]) -> list[Layer]:
    """The plain description of each pair, in order."""
    return [Layer(pair.name, pair.scaling, pair.groups, pair.dropout) for pair in pairs]


def param_groups(
    pairs: Sequence[LoraPair], rest: Iterable[nn.Parameter], groups: Iterable[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer, each with a list ``roles`` beside its ``params``.

    Args:
        pairs: the LoRA pairs of the model.
        rest: all other trainable parameters.
        groups: groups of the user's own, in torch's form, for example
            ``[{"params": [pair.B for pair in pairs], "lr": 4.0}]``; whatever they leave out forms one more group,
            which comes first.

    Returns:
        The groups, without empty ones.

    Raises:
        LorateError: a group names a parameter twice, or one that is not trained.
    """
    roles: dict[int, Role] = {}
    parameters: dict[int, nn.Parameter] = {}
    for layer, pair in enumerate(pairs):
        roles[id(pair.A)], roles[id(pair.B)] = (layer, "A"), (layer, "B")
        parameters |= {id(pair.A): pair.A, id(pair.B): pair.B}
    for parameter in rest:
        roles[id(parameter)], parameters[id(parameter)] = None, parameter
    own = [{**group, "params": _listed(group["params"])} for group in groups or ()]
    for parameter in (p for group in own for p in group["params"]):
        if parameters.pop(id(parameter), None) is None:
            raise LorateError(
                f"a param group holds a parameter of shape {tuple(parameter.shape)} that is frozen, is in another "
                "group too, or is not in the model"
            )
    result = [{"params": list(parameters.values())}, *own]
    return [{**group, "roles": [roles[id(p)] for p in group["params"]]} for group in result if group["params"]]


def checked_groups(
    groups: Iterable[dict[str, Any]], rule: Rule, lr: float | None
) -> tuple[list[dict[str, Any]], float | Tensor]:
    """The groups as a list, and the ``lr`` of those that have none of their own.

    Raises:
        LorateError: ``lr`` is missing where the rule has no default, or not a finite number >= 0.
    """
    groups, lr = list(groups), rule.default_lr if lr is None else lr
    if lr is None:
        raise LorateError(f"rule {rule.name!r} needs lr=... (--lr): it has no constant that is right by default")
    for value in (lr, *(group["lr"] for group in groups if "lr" in group)):
        if not _is_multiplier(value):
            raise LorateError(f"lr must be a finite number >= 0, got {value!r}")
    largest = max((float(group.get("lr", lr)) for group in groups), default=1.0)
    if "last-line" in rule.needs and 0 < largest < SMALL_LR:
        warnings.warn(
            f"lr={largest:g} multiplies the steps of rule {rule.name!r}, which needs no learning rate: it would begin "
            f"with steps {1 / largest:,.0f} times shorter than usual and lose many on the way up; leave lr out",
            stacklevel=4,
        )
    return groups, lr


def _is_multiplier(value: Any) -> bool:
    try:
        return not isinstance(value, str) and 0 <= float(value) < float("inf")
    except (TypeError, ValueError, RuntimeError):  # None, say, or a tensor of several numbers
        return False


def _listed(params: Tensor | Iterable[nn.Parameter]) -> list[Any]:
    """A single tensor stands for itself, as in torch; iterating over it would give its rows."""
    return [params] if isinstance(params, Tensor) else list(params)


def slots(groups: Iterable[dict[str, Any]]) -> list[Slot]:
    """Every parameter with its role and its group, as the groups are now.

    Raises:
        LorateError: a group no longer holds one parameter a role.
    """
    groups = list(groups)
    for group in groups:
        if len(group["params"]) != len(group["roles"]):
            raise LorateError(
                f"a param group holds {len(group['params'])} tensors instead of its {len(group['roles'])} parameters: "
                "something has merged them, as DeepSpeed's ZeRO does; train data-parallel (DDP), or with FSDP2"
            )
    return [
        Slot(parameter, None if role is None else (role[0], role[1]), group)
        for group in groups
        for parameter, role in zip(group["params"], group["roles"], strict=True)
    ]


def values(slots: Sequence[Slot]) -> list[Tensor]:
    """The parameters themselves; whole where they are sharded over ranks."""
    return sharding.whole(slot.parameter.detach() for slot in slots)


def gradients(slots: Sequence[Slot]) -> list[Tensor]:
    """Their gradients likewise, zero where there is none."""
    return sharding.whole(
        torch.zeros_like(slot.parameter) if slot.gradient is None else slot.gradient for slot in slots
    )


def blocks_by_layer(
    slots: Sequence[Slot], tensors: Sequence[Tensor], layers: Sequence[Layer]
) -> tuple[list[Tensor], list[Tensor]]:
    """What belongs to A and what belongs to B of each layer, as blocks (see `lorate.adapters.factor_blocks`).

    Args:
        slots: the optimizer's parameters.
        tensors: one a slot, of its parameter's whole shape: the parameter itself, its gradient, a direction.
        layers: the layers that the slots' roles refer to.
    """
    sides = {slot.role: tensor for slot, tensor in zip(slots, tensors, strict=True) if slot.role is not None}
    pairs = [factor_blocks(sides[i, "A"], sides[i, "B"], layer.groups) for i, layer in enumerate(layers)]
    return [a for a, _ in pairs], [b for _, b in pairs]
