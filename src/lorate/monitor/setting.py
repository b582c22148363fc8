"""The facts about a run that its certificate rests on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

import torch

from lorate.errors import LorateError
from lorate.optim import LoraGradientDescent
from lorate.runs import write_atomically
from lorate.runs.reading import read_json

FILE = "setting.json"
LARGEST = 1e150
"""Of the numbers that are squared later; the largest float is about 1.8e308."""


@dataclass(frozen=True)
class Setting:
    """What is known about the function that was minimised, and about the rule.

    Attributes:
        rule: name of the rule.
        full_batch: every step saw the whole training set, so that the loss is one function.
        lower_bound: a number that the loss never goes below.
        smoothness: L as given to the rule; None where it was given none.
        per_layer: whether layers take steps of their own.
        dropout: whether a layer drops inputs of its adapter.
        gradient_norm: how the frozen weights' gradient was measured: ``exact``, ``sketch``, or None.
        has_rest: whether parameters beside LoRA are trained.
        precision: relative rounding of the loss, the machine epsilon of the adapters' dtype.
    """

    rule: str
    full_batch: bool
    lower_bound: float
    smoothness: float | None
    per_layer: bool
    dropout: bool
    gradient_norm: str | None
    has_rest: bool
    precision: float

    @classmethod
    def of(cls, optimizer: LoraGradientDescent, *, full_batch: bool, lower_bound: float) -> Self:
        """What an optimizer can tell, and the two facts that only the user knows."""
        hooks: Any = optimizer.weight_gradient
        parameter = optimizer.param_groups[0]["params"][0]
        return cls(
            rule=optimizer.rule.name,
            full_batch=full_batch,
            lower_bound=lower_bound,
            smoothness=getattr(optimizer.rule, "smoothness", None),
            per_layer=bool(getattr(optimizer.rule, "per_layer", False)),
            dropout=any(layer.dropout for layer in optimizer.layers),
            gradient_norm=None if hooks is None else hooks.method,
            has_rest=any(role is None for group in optimizer.param_groups for role in group["roles"]),
            precision=torch.finfo(parameter.dtype).eps,
        )

    def write(self, directory: Path) -> None:
        """Write the facts into a run directory."""
        write_atomically(directory / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read them back.

        Raises:
            LorateError: the file is missing or damaged.
        """
        file = directory / FILE
        try:
            setting = cls(**read_json(file))
        except FileNotFoundError:
            raise LorateError(f"{directory} holds no {FILE}; lorate.Monitor writes it beside metrics.jsonl.") from None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise LorateError(f"{file} cannot be read: {error}.") from None
        for name, expected in get_type_hints(cls).items():
            value = getattr(setting, name)
            if not (
                is_number(value) if value is not None and float in _options(expected) else isinstance(value, expected)
            ):
                raise LorateError(f"{file}: {name} is not what lorate.Monitor writes; the file is damaged.")
        return setting


def is_number(value: object, largest: float = LARGEST) -> bool:
    """Whether a value that was read back is a finite number, by default one whose square is finite too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= largest


def _options(declared: Any) -> tuple[Any, ...]:
    return get_args(declared) or (declared,)
