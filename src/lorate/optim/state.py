"""The optimizer's state as torch's checkpoints keep it: tensors by parameter, plain numbers in the groups.

``torch.distributed.checkpoint`` reads tensors of sharded parameters there and nowhere else, and ``torch.load`` reads
all of it with ``weights_only=True``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.optim.average import PolynomialAverage
from lorate.optim.direction import Direction
from lorate.optim.layout import Layer, Slot, slots
from lorate.optim.mark import mark_of
from lorate.optim.move import Move
from lorate.rules import Rule

FORMAT = 2
DIRECTION = "direction."
"""Before the names of what another optimizer, whose direction is taken, keeps of a parameter."""

Groups = list[dict[str, Any]]


def pack(
    plain: dict[str, Any],
    groups: Groups,
    rule: Rule,
    direction: Direction | None,
    move: Move | None,
    average: PolynomialAverage | None,
    layers: Sequence[Layer],
) -> dict[str, Any]:
    """The whole state.

    Args:
        plain: torch's own form of it, with counters and multipliers in the groups.
        groups: param groups of the optimizer.
        rule: with what it remembers.
        direction: another optimizer, if its direction is taken.
        move: of the last step.
        average: of the adapters.
        layers: description of each LoRA layer.
    """
    current = slots(groups)
    kept: dict[int, dict[str, Any]] = {i: {} for i in range(len(current))}
    of_average = {} if average is None else {"average": average.tensors}
    for name, tensors in (of_average | ({} if move is None else move.tensors())).items():
        for i, tensor in enumerate(tensors):
            kept[i][name] = tensor
    inner = None
    if direction is not None:
        own = direction.state_dict(current)
        for i, values in own["state"].items():
            kept[i] |= {f"{DIRECTION}{name}": value for name, value in values.items()}
        inner = {"kind": direction.kind, "param_groups": own["param_groups"]}
    mark = None if average is None else average.mark  # one that was loaded stays until the adapters were looked at
    if mark is None and average is not None and move is not None:
        mark = mark_of(current, layers)
    lorate = {
        "format": FORMAT,
        "rule": rule.name,
        "memory": rule.state_dict(),
        "direction": inner,
        "move": None if move is None else {"multiplier": move.multiplier},
        "is_averaged": average is not None and average.is_in_model,
        "pending": 0 if average is None else average.pending,
        "mark": mark,
    }
    packed = [
        {**group, "shapes": _shapes(own), "lorate": lorate}
        for group, own in zip(plain["param_groups"], groups, strict=True)
    ]
    return {"state": {i: values for i, values in kept.items() if values}, "param_groups": packed}


def check(state: dict[str, Any], groups: Groups, rule: Rule, direction: Direction | None) -> None:
    """Refuse a state that is another optimizer's; arguments as in `pack`.

    Raises:
        LorateError: which one it is.
    """
    theirs: Groups = state.get("param_groups", []) if isinstance(state, dict) else []
    lorate = theirs[0].get("lorate") if theirs else None
    if not isinstance(lorate, dict) or lorate.get("format") != FORMAT:
        known = lorate.get("format") if isinstance(lorate, dict) else None
        was = "by another optimizer or version" if known is None else f"in format {known}"
        raise LorateError(
            f"the optimizer state was saved {was}, and this version of lorate reads format {FORMAT}; "
            "do not resume, but begin a new run with the saved adapters"
        )
    if lorate["rule"] != rule.name:
        raise LorateError(
            f"the optimizer state was saved under rule {lorate['rule']!r}, but this one has rule {rule.name!r}; "
            "do not resume, but begin a new run with the saved adapters"
        )
    roles = [[None if r is None else tuple(r) for r in group.get("roles", ())] for group in theirs]
    if roles != [group["roles"] for group in groups]:
        raise LorateError("the optimizer state was saved for other LoRA layers or param groups than this model's")
    for group, own in zip(theirs, groups, strict=True):
        for was, shape in zip(group["shapes"], _shapes(own), strict=True):
            if list(was) != shape:
                raise LorateError(
                    f"the optimizer state was saved for a parameter of shape {list(was)}, which has shape {shape} "
                    "here: build the adapters with the same rank"
                )
    saved = "the gradient" if lorate["direction"] is None else lorate["direction"]["kind"]
    taken = "the gradient" if direction is None else direction.kind
    if saved != taken:
        raise LorateError(
            f"the optimizer state was saved with the direction of {saved}, but this one takes that of {taken}: build "
            "it with the same direction="
        )
    needed = {"average"} if rule.average_exponent is not None else set()
    needed |= set() if lorate["move"] is None else {"move", "z_sensitivity", "x_sensitivity"}
    names = [name for group in theirs for name in group["params"]]
    for name, slot in zip(names, slots(groups), strict=True):
        kept = state.get("state", {}).get(name, {})
        lost = sorted(key for key in needed if key not in kept or kept[key].shape != slot.parameter.shape)
        if lost:
            raise LorateError(
                f"the optimizer state is incomplete: of parameter {name}, of shape {list(slot.parameter.shape)}, "
                f"{', '.join(lost)} is missing or has another shape; load all that optimizer.state_dict() gave"
            )


def unpack(
    state: dict[str, Any],
    groups: Groups,
    rule: Rule,
    direction: Direction | None,
    average: PolynomialAverage | None,
) -> Move | None:
    """Restore what `pack` gave, in place; torch has restored the groups before. Arguments as in `pack`.

    Returns:
        The move of the last step.
    """
    lorate = groups[0]["lorate"]
    for group in groups:
        del group["lorate"], group["shapes"]
    current = slots(groups)
    names = [name for group in state["param_groups"] for name in group["params"]]  # numbers, or names of parameters
    kept = [state["state"].get(name, {}) for name in names]

    def tensors(key: str) -> list[Tensor]:
        # in their own dtype: torch would cast them to that of the parameter
        return [values[key].to(slot.parameter.device, copy=True) for values, slot in zip(kept, current, strict=True)]

    rule.load_state_dict(lorate["memory"])
    if average is not None:
        average.tensors = tensors("average")
        average.is_in_model, average.pending = lorate["is_averaged"], lorate["pending"]
        average.mark = lorate.get("mark")
        average.has_begun = groups[0]["steps"] > groups[0]["skipped"]
    if direction is not None:
        own = {
            i: {name.removeprefix(DIRECTION): v for name, v in values.items() if name.startswith(DIRECTION)}
            for i, values in enumerate(kept)
        }
        inner = {"state": {i: v for i, v in own.items() if v}, "param_groups": lorate["direction"]["param_groups"]}
        direction.load_state_dict(inner, current)
    if lorate["move"] is None:
        return None
    return Move(tensors("move"), lorate["move"]["multiplier"], tensors("z_sensitivity"), tensors("x_sensitivity"))


def is_rehearsal(current: Sequence[Slot], closure: object, loss: object, losses: Sequence[Tensor]) -> bool:
    """Whether this is the step by which torch's distributed checkpoints make an optimizer create its state.

    They clear the gradients, set every ``lr`` to 0 and call ``step()``; nothing may come of it.
    """
    if closure is not None or loss is not None or losses or any(slot.multiplier for slot in current):
        return False
    return all(slot.parameter.grad is None or not torch.any(slot.parameter.grad) for slot in current)


def _shapes(group: dict[str, Any]) -> list[list[int]]:
    return [list(parameter.shape) for parameter in group["params"]]
