"""What a calibration sweeps over."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorate.errors import LorateError
from lorate.training import TrainConfig

SMALL = "lorate:small"
"""The name, as a model, of a small language model that comes with lorate: it reads bytes and has seen chat."""
SMALL_MODEL = Path(__file__).parent / "small_model"


@dataclass(frozen=True)
class Sweep:
    """Ranks against alphas, under AdamW.

    Attributes:
        own: options of `lorate.training.TrainConfig` that say which model and data.
        ranks: two or more.
        alphas: values of ``lora_alpha``, two or more, the same for every rank.
        lrs: learning rates; each gets a fit of its own.
        steps: of a full run.
        batch_size: samples a step.
        seeds: runs of each point.
        seed: the first of them.

    Raises:
        LorateError: fewer than two ranks or alphas, no learning rate, a value out of range, or an option of ``own``
            that is unknown or does not fit.
    """

    own: Mapping[str, Any] = field(default_factory=dict)
    ranks: Sequence[int] = (4, 8, 16, 32, 64)
    alphas: Sequence[float] = (32, 128, 512, 2048, 8192, 32768)
    lrs: Sequence[float] = (1e-4,)
    steps: int = 100
    batch_size: int = 8
    seeds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fewest in (("ranks", 2), ("alphas", 2), ("lrs", 1)):
            values = list(dict.fromkeys(getattr(self, name)))
            if len(values) < fewest:
                word = {"ranks": "two ranks", "alphas": "two alphas", "lrs": "one learning rate"}[name]
                raise LorateError(f"a calibration needs at least {word}, got {', '.join(map(str, values)) or 'none'}.")
            for value in values:
                if (name == "ranks" and not isinstance(value, int)) or not 0 < value < math.inf:
                    expected = "whole numbers of at least 1" if name == "ranks" else "finite numbers above 0"
                    raise LorateError(f"{name} must be {expected}, got {value!r}.")
            object.__setattr__(self, name, tuple(sorted(values)))
        for name in ("steps", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise LorateError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        own_config(self.own, self.ranks[0], self.alphas[0], self.batch_size, self.seed)  # before hours of runs

    @property
    def identity(self) -> dict[str, Any]:
        """What the runs of one directory have in common; ranks, alphas, learning rates and seeds may be added."""
        return {"experiment": "alpha calibrate", **self.own, "steps": self.steps, "batch_size": self.batch_size}


def own_config(own: Mapping[str, Any], rank: int, alpha: float, batch_size: int, seed: int) -> TrainConfig:
    """Options of ``lorate train``: ``own`` says which model and data, the others are set by a sweep.

    Raises:
        LorateError: an option is unknown or does not fit.
    """
    swept = {"rank": rank, "alpha": alpha, "batch_size": batch_size, "seed": seed}
    model = {"model": str(SMALL_MODEL)} if own.get("model") == SMALL else {}
    return TrainConfig.from_mapping({**own, **model, **swept}, source="the calibration's options")


QUICK: Mapping[str, Any] = {
    "own": {"model": SMALL, "train_on": "all", "max_length": 64, "device": "cpu"},
    "ranks": (1, 4, 16, 64),
    "alphas": (1024, 4096, 16384, 65536),
    "steps": 30,
    "batch_size": 4,
    "seeds": 1,
}
"""For `Sweep`: less than a minute on two cores."""
