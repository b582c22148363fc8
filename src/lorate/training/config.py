"""The options of a fine-tuning run: one flat set, the same on the command line and in a YAML file."""

import dataclasses
import difflib
import math
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Self, get_args, get_origin

from lorate.errors import LorateError
from lorate.monitor.monitor import OnAlarm
from lorate.rules import RULES, make_rule
from lorate.scaling import lora_alpha
from lorate.tasks.kinds import TaskKind

Dtype = Literal["float32", "bfloat16", "float16"]
LAW = "law"
"""In place of a number for alpha: the square-root law."""

_BRIEFLY = reprlib.Repr()  # a few lines of YAML with references can stand for a text that fills the memory
_BRIEFLY.maxlevel, _BRIEFLY.maxstring, _BRIEFLY.maxother = 2, 80, 80


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how.

    Attributes:
        model: hub id, local directory, GGUF file, or None for the embedded SmolLM2-135M-Instruct.
        data: hub id, local file or folder, or None for the embedded data.
        eval_data: held-out data in the same forms; None holds out a part of ``data``.
        task: the kind of model.
        rank: r of the adapters.
        alpha: ``lora_alpha``; the scaling is s = alpha / rank. A mapping may say ``law``, see `lorate.lora_alpha`.
        targets: names of the layers to adapt; None takes the usual ones of the architecture.
        dropout: ``lora_dropout``.
        rule: the rule for the step size.
        lr: the rule's constant; None takes the rule's default.
        smoothness: L, for the rules that need it.
        batch_size: samples of a micro-batch.
        accumulate: micro-batches of a step.
        steps: optimizer steps.
        max_length: tokens that a text is cut to.
        train_on: ``completion``: prompts are given, not learnt; ``all``: every token counts.
        seed: of the adapters' start, the data order and dropout.
        eval_fraction: part of ``data`` to hold out.
        eval_examples: held-out examples to evaluate at most.
        eval_every: steps between evaluations; None: a quarter of the run. Always before and after.
        save_every: steps between checkpoints; None: a quarter of the run, at most 200.
        samples: held-out prompts to complete before and after.
        on_alarm: ``warn``, ``stop`` or ``halve``, see `lorate.Monitor`.
        device: where to train; None: a GPU if there is one.
        dtype: of the base model's weights; adapters are float32.
        report_to: further logger of transformers, such as ``wandb``.

    Raises:
        LorateError: an option is out of range, of a wrong type, or does not fit another one.
    """

    model: str | None = None
    data: str | None = None
    eval_data: str | None = None
    task: TaskKind = "causal-lm"
    rank: int = 8
    alpha: float = 16.0
    targets: list[str] | None = None
    dropout: float = 0.0
    rule: str = "auto"
    lr: float | None = None
    smoothness: float | None = None
    batch_size: int = 4
    accumulate: int = 1
    steps: int = 100
    max_length: int = 512
    train_on: Literal["completion", "all"] = "completion"
    seed: int = 0
    eval_fraction: float = 0.1
    eval_examples: int = 64
    eval_every: int | None = None
    save_every: int | None = None
    samples: int = 2
    on_alarm: OnAlarm = "warn"
    device: str | None = None
    dtype: Dtype = "float32"
    report_to: str = "none"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        for name in ("rank", "batch_size", "accumulate", "steps", "max_length", "eval_examples"):
            _check(name, getattr(self, name) >= 1, "1 or more", self)
        for name in ("eval_every", "save_every"):
            _check(name, getattr(self, name) is None or getattr(self, name) >= 1, "1 or more", self)
        _check("samples", self.samples >= 0, "0 or more", self)
        _check("seed", 0 <= self.seed < 2**32, "from 0 to 2³² - 1", self)
        _check("alpha", 0 < self.alpha / self.rank < math.inf, "a finite number above 0", self)
        _check("dropout", 0 <= self.dropout < 1, "from 0 to below 1", self)
        _check("eval_fraction", 0 < self.eval_fraction < 1, "between 0 and 1", self)
        _check("targets", self.targets is None or len(self.targets) > 0, "at least one layer name", self)
        rule = make_rule(self.rule, self.smoothness)
        if "closure" in rule.needs:
            raise LorateError(
                f"rule {self.rule!r} tries several steps on the whole data, which the Trainer cannot do; use another "
                "rate, or lorate.create_optimizer and optimizer.step(closure) in a loop of your own."
            )
        if rule.default_lr is None and self.lr is None:
            raise LorateError(f"rule {self.rule!r} needs lr (--lr): it has no constant that is right by default.")
        _check("lr", self.lr is None or 0 < self.lr < math.inf, "a finite number above 0", self)

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], source: str) -> Self:
        """Options by name, as a YAML file holds them; what is left out has its default.

        Args:
            options: names with underscores or hyphens, and values.
            source: where they come from, for the error.

        Raises:
            LorateError: an unknown name (with the nearest known one), or a value that does not fit.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        named = {str(name).replace("-", "_"): value for name, value in options.items()}
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise LorateError(f"{source} holds an unknown option {_BRIEFLY.repr(name)}{hint}.")
        if named.get("alpha") == LAW:
            named["alpha"] = lora_alpha(named.get("rank", cls.rank))
        return cls(**named)

    def to_mapping(self) -> dict[str, Any]:
        """All options as plain values."""
        return dataclasses.asdict(self)

    @property
    def scaling(self) -> float:
        """The scaling of the adapters, s = alpha / rank."""
        return self.alpha / self.rank

    @property
    def evaluation_interval(self) -> int:
        """Steps between evaluations."""
        return self.eval_every or max(1, self.steps // 4)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""
        return self.save_every or max(1, min(200, self.steps // 4))

    @property
    def resolved_lr(self) -> float:
        """The rule's constant, its default filled in."""
        lr = self.lr if self.lr is not None else RULES[self.rule].default_lr
        assert lr is not None
        return lr


def _check(name: str, fits: bool, expected: str, config: TrainConfig) -> None:
    if not fits:
        raise LorateError(f"{name} must be {expected}, got {_BRIEFLY.repr(getattr(config, name))}.")


def _check_type(name: str, value: Any, declared: Any) -> None:
    """YAML and JSON give any type; say which one was expected."""
    options = get_args(declared) if isinstance(declared, UnionType) else (declared,)
    if any(_fits(value, option) for option in options):
        return
    words = [word for option in options if (word := _word(option))]
    raise LorateError(f"{name} must be {' or '.join(words)}, got {_BRIEFLY.repr(value)}.")


def _fits(value: Any, declared: Any) -> bool:
    if get_origin(declared) is Literal:
        return value in get_args(declared)
    if get_origin(declared) is list:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if isinstance(value, bool):
        return declared is bool
    if isinstance(value, int):  # of any length in Python, but a float and torch cannot hold all of them
        return (declared is int and abs(value) < 2**63) or (declared is float and abs(value) <= sys.float_info.max)
    return isinstance(value, declared)


def _word(declared: Any) -> str:
    if get_origin(declared) is Literal:
        return "one of " + ", ".join(get_args(declared))
    if get_origin(declared) is list:
        return "a list of names"
    return {int: "a whole number", float: "a number", str: "text", NoneType: "left out"}[declared]
