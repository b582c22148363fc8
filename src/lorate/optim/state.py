"""The optimizer's state as torch's checkpoints keep it: tensors by parameter, plain numbers in the groups.

``torch.distributed.checkpoint`` reads tensors of sharded parameters there and nowhere else, and ``torch.load`` reads
all of it with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.optim.layout import Slot, slots
from lorate.optim.move import Move

if TYPE_CHECKING:
    from lorate.optim.optimizer import LoraOptimizer

FORMAT = 1
DIRECTION = "direction."
"""Before the names of what another optimizer, whose direction is taken, keeps of a parameter."""


def pack(optimizer: LoraOptimizer, plain: dict[str, Any]) -> dict[str, Any]:
    """The whole state.

    Args:
        optimizer: whose state it is.
        plain: torch's own form of it, with counters and multipliers in the groups.
    """
    parameters = [slot.parameter for slot in slots(optimizer.param_groups)]
    kept: dict[int, dict[str, Any]] = {i: {} for i in range(len(parameters))}
    if optimizer._average is not None:
        for i, tensor in enumerate(optimizer._average.tensors):
            kept[i]["average"] = tensor
    if optimizer._move is not None:
        for i, tensor in enumerate(optimizer._move.directions):
            kept[i]["move"] = tensor
    direction = None
    if optimizer.direction is not None:
        own = optimizer.direction.state_dict()
        for i, values in own["state"].items():
            kept[i] |= {f"{DIRECTION}{name}": value for name, value in values.items()}
        direction = {"kind": type(optimizer.direction.inner).__name__, "param_groups": own["param_groups"]}
    lorate = {
        "format": FORMAT,
        "rule": optimizer.rule.name,
        "memory": optimizer.rule.state_dict(),
        "direction": direction,
        "move": None if optimizer._move is None else optimizer._move.state_dict(),
        "is_averaged": optimizer.is_averaged,
        "unaveraged": 0 if optimizer._average is None else optimizer._average.pending,
    }
    groups = []
    for group, shapes in zip(plain["param_groups"], _shapes(optimizer), strict=True):
        groups.append({**group, "shapes": shapes, "lorate": lorate})
    return {"state": {i: values for i, values in kept.items() if values}, "param_groups": groups}


def check(optimizer: LoraOptimizer, state: dict[str, Any]) -> None:
    """Refuse a state that is another optimizer's.

    Raises:
        LorateError: which one it is.
    """
    groups = state["param_groups"]
    lorate = groups[0].get("lorate") if groups else None
    if not isinstance(lorate, dict) or lorate.get("format") != FORMAT:
        known = lorate.get("format") if isinstance(lorate, dict) else None
        was = "by another optimizer or version" if known is None else f"in format {known}"
        raise LorateError(f"the optimizer state was saved {was}, and this version of lorate reads format {FORMAT}")
    own = optimizer.rule.name
    if lorate["rule"] != own:
        raise LorateError(f"the optimizer state was saved under rule {lorate['rule']!r}, but this one has rule {own!r}")
    roles = [[None if r is None else tuple(r) for r in group.get("roles", ())] for group in groups]
    if roles != [group["roles"] for group in optimizer.param_groups]:
        raise LorateError("the optimizer state was saved for other LoRA layers or param groups than this model's")
    for theirs, ours in zip(groups, _shapes(optimizer), strict=True):
        for a, b in zip(theirs["shapes"], ours, strict=True):
            if list(a) != b:
                raise LorateError(
                    f"the optimizer state was saved for a parameter of shape {list(a)}, which has shape {b} here: "
                    "build the adapters with the same rank"
                )
    kind = None if lorate["direction"] is None else lorate["direction"]["kind"]
    own_kind = None if optimizer.direction is None else type(optimizer.direction.inner).__name__
    if kind != own_kind:
        raise LorateError(
            f"the optimizer state was saved with the direction of {kind or 'the gradient'}, but this one takes that of "
            f"{own_kind or 'the gradient'}: build it with the same direction="
        )


def unpack(optimizer: LoraOptimizer, state: dict[str, Any]) -> None:
    """Restore what `pack` gave; the groups were restored by torch before."""
    lorate = optimizer.param_groups[0]["lorate"]
    for group in optimizer.param_groups:
        del group["lorate"], group["shapes"]
    current = slots(optimizer.param_groups)
    names = [name for group in state["param_groups"] for name in group["params"]]  # numbers, or names of parameters
    kept = [state["state"].get(name, {}) for name in names]

    def tensors(key: str) -> list[Tensor]:
        # in their own dtype: torch would cast them to that of the parameter
        return [values[key].to(slot.parameter.device, copy=True) for values, slot in zip(kept, current, strict=True)]

    optimizer.rule.load_state_dict(lorate["memory"])
    optimizer._known = None
    optimizer._move = None if lorate["move"] is None else Move.from_state(lorate["move"], tensors("move"))
    if optimizer._average is not None:
        average = optimizer._average
        average.tensors = tensors("average")
        average.is_in_model, average.pending = lorate["is_averaged"], lorate["unaveraged"]
    if optimizer.direction is not None:
        own = {
            i: {name.removeprefix(DIRECTION): v for name, v in values.items() if name.startswith(DIRECTION)}
            for i, values in enumerate(kept)
        }
        state = {"state": {i: v for i, v in own.items() if v}, "param_groups": lorate["direction"]["param_groups"]}
        optimizer.direction.load_state_dict(state, current)


def is_rehearsal(current: Sequence[Slot], closure: object, loss: object, losses: Sequence[Tensor]) -> bool:
    """Whether this is the step by which torch's distributed checkpoints make an optimizer create its state.

    They clear the gradients, set every ``lr`` to 0 and call ``step()``; nothing may come of it.
    """
    if closure is not None or loss is not None or losses or any(slot.multiplier for slot in current):
        return False
    return all(slot.parameter.grad is None or not torch.any(slot.parameter.grad) for slot in current)


def _shapes(optimizer: LoraOptimizer) -> list[list[list[int]]]:
    return [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
