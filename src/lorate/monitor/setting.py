"""The facts about a run that its certificate rests on."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeGuard, get_args, get_type_hints

import torch
from torch import nn

from lorate.errors import LorateError
from lorate.monitor.noise import noise_sources
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
        lower_bound: a number that the loss never goes below, whatever the weights.
        smoothness: L as given to the rule; None where it was given none.
        finds_smoothness: whether the rule finds its L by trial.
        per_layer: whether layers take steps of their own.
        noise: what in the model draws random numbers in training, empty if nothing was found; None if not checked.
        gradient_norm: how the frozen weights' gradient was measured: ``exact``, ``sketch``, or None.
        has_rest: whether parameters beside LoRA are trained.
        precision: relative rounding of the loss, the machine epsilon of the adapters' dtype.
        mixed: whether the run went on with another rule, L, lower bound or kind of batches.
    """

    rule: str
    full_batch: bool
    lower_bound: float
    smoothness: float | None
    finds_smoothness: bool
    per_layer: bool
    noise: str | None
    gradient_norm: str | None
    has_rest: bool
    precision: float
    mixed: bool = False

    @classmethod
    def of(
        cls,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[dict[str, Any]],
        model: nn.Module | None,
        *,
        full_batch: bool,
        lower_bound: float,
    ) -> Self:
        """What an optimizer and its model can tell, and the two facts that only the user knows.

        Args:
            optimizer: lorate's, or any other of torch's kind.
            groups: its trained parameters with their roles.
            model: what is trained; None if it is not known.
            full_batch: as above.
            lower_bound: as above.
        """
        rule, hooks = getattr(optimizer, "rule", None), getattr(optimizer, "weight_gradient", None)
        finds = "closure" in getattr(rule, "needs", ())
        return cls(
            rule=getattr(rule, "name", type(optimizer).__name__),
            full_batch=full_batch,
            lower_bound=lower_bound,
            smoothness=None if finds else getattr(rule, "smoothness", None),
            finds_smoothness=finds,
            per_layer=bool(getattr(rule, "per_layer", False)),
            noise=_noise(optimizer, model),
            gradient_norm=getattr(hooks, "method", None),
            has_rest=any(role is None for group in groups for role in group["roles"]),
            precision=torch.finfo(optimizer.param_groups[0]["params"][0].dtype).eps,
        )

    def write(self, directory: Path, *, goes_on: bool) -> None:
        """Write the facts into a run directory.

        Args:
            directory: where.
            goes_on: facts are there already: noise that was found once counts for the whole run, and other facts than
                before make it mixed.
        """
        facts = self
        if goes_on and (directory / FILE).exists():
            before = type(self).read(directory)
            alike = replace(self, noise=before.noise, mixed=before.mixed) == before
            # what is found now comes first: the file may have been damaged where no fact contradicts it
            facts = replace(self, noise=self.noise or before.noise, mixed=before.mixed or not alike)
        write_atomically(directory / FILE, json.dumps(asdict(facts), indent=2) + "\n")

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


def _noise(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> str | None:
    if model is not None:
        return some(noise_sources(model))
    dropping = [layer.name for layer in getattr(optimizer, "layers", ()) if layer.dropout]
    return some(dropping) if dropping else None


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def is_number(value: object, largest: float = LARGEST) -> TypeGuard[float]:
    """Whether a value that was read back is a finite number, by default one whose square is finite too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= largest


def _options(declared: Any) -> tuple[Any, ...]:
    return get_args(declared) or (declared,)
