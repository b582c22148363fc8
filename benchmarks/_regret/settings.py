"""What is trained: the settings, divided beforehand into those to develop on and those to judge on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lorate_papers.training.tuning import constants
from lorate_papers.workloads import WORKLOADS, AdapterSpec, load_workload
from lorate_papers.workloads.tensor_workload import TensorWorkload

WORKLOADS |= {name: f"_regret.{name}" for name in ("answers", "preferences")}  # of this benchmark alone
GRID_SIZE = 8
GRIDS: Mapping[str, tuple[float, float]] = {
    "matrix": (1e-3, 1e-1),
    "logistic": (2e-3, 5e-1),
    "small-lm": (1e-4, 6e-2),
    "answers": (1e-4, 6e-2),
    "preferences": (1e-4, 6e-2),
    "resnet": (3e-4, 1e-1),
    "minilm": (1e-4, 3e-2),
    "smollm2": (5e-5, 1e-2),
}
"""Smallest and largest learning rate tried on each workload, for every setting of it."""
LANGUAGE = ("small-lm", "answers", "preferences", "smollm2")
"""Workloads that train a causal language model; the formula for learning rates is for them."""


@dataclass(frozen=True)
class Setting:
    """A workload, LoRA on it, and how long it is trained.

    Attributes:
        workload: of `lorate_papers.workloads`.
        rank: r.
        alpha: the scaling is alpha / r.
        batch: examples a step.
        steps: of every method.
        noise: what keeps the best possible loss above 5% of the starting loss, in training and held-out set alike:
            the part of the labels that are drawn anew, or the standard deviation of what is added to the outputs.
        tokens: sequences are cut into pieces of so many tokens; None leaves them.
        quick: the small form of the workload, for tests.
        examples: the training set has no more than so many, each of which is seen the more often; None keeps all.
    """

    workload: str
    rank: int
    alpha: float
    batch: int
    steps: int
    noise: float = 0.0
    tokens: int | None = None
    quick: bool = False
    examples: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The attributes by name; without ``examples`` where it is None, as earlier runs are recorded."""
        return {name: value for name, value in asdict(self).items() if name != "examples" or value is not None}

    @property
    def name(self) -> str:
        """Short, without spaces: ``small-lm,r8,a16,b8``."""
        return f"{self.workload},r{self.rank},a{self.alpha:g},b{self.batch}"

    @property
    def adapter(self) -> AdapterSpec:
        """LoRA as it is built."""
        return AdapterSpec(rank=self.rank, alpha=self.alpha)

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates that are tried, evenly in the logarithm."""
        return constants(*GRIDS[self.workload], GRID_SIZE)


DEVELOP = (
    Setting("matrix", 4, 8, batch=16, steps=300, noise=0.25),  # without noise the best is 1.2% of the start
    Setting("matrix", 8, 64, batch=4, steps=300, noise=0.25),
    Setting("logistic", 4, 8, batch=16, steps=300),
    Setting("small-lm", 8, 16, batch=8, steps=150),
    Setting("small-lm", 4, 512, batch=2, steps=200),
    Setting("smollm2", 8, 16, batch=4, steps=40, tokens=64),
)
"""On which ``auto`` was made; the cheapest first."""
JUDGE = (
    Setting("logistic", 8, 64, batch=64, steps=300),
    Setting("small-lm", 32, 8, batch=4, steps=150),
    Setting("small-lm", 16, 64, batch=16, steps=100),
    Setting("minilm", 8, 16, batch=8, steps=100),
    Setting("resnet", 8, 16, batch=32, steps=150, noise=0.1),  # without noise the best is 3% of the start
    Setting("smollm2", 16, 128, batch=2, steps=40, tokens=64),
)
"""Which nobody looked at while making the first ``auto``."""
JUDGE_NEW = (
    Setting("small-lm", 8, 32, batch=4, steps=450),  # three times as many steps
    Setting("small-lm", 16, 16, batch=8, steps=150, examples=96),  # 12.5 passes
    Setting("answers", 8, 32, batch=4, steps=150),
    Setting("preferences", 8, 16, batch=8, steps=80),
    Setting("resnet", 4, 64, batch=16, steps=200, noise=0.1),
    Setting("smollm2", 8, 32, batch=2, steps=200, tokens=64),
)
"""To judge the second ``auto``: written down before any of them was run, with grids wide enough to hold the best rates
of their nearest neighbours above."""
SEEDS = (0, 1, 2)


def seeds_of(setting: Setting) -> tuple[int, ...]:
    """All seeds; fewer of SmolLM2, of which a run takes minutes."""
    if setting.workload != "smollm2":
        return SEEDS
    return SEEDS[:1] if setting in JUDGE_NEW else SEEDS[:2]


def task_of(setting: Setting) -> TensorWorkload:
    """The workload of a setting, with the noise that belongs to it."""
    task = load_workload(setting.workload, quick=setting.quick)
    assert isinstance(task, TensorWorkload)
    if setting.tokens is not None:
        task = in_pieces(task, setting.tokens)
    if setting.examples is not None:
        task = replace(task, train={name: values[: setting.examples] for name, values in task.train.items()})
    return noisy(task, setting.noise) if setting.noise else task


@lru_cache(maxsize=2)
def starting_loss(setting: Setting) -> float:
    """Held-out loss before the first step, the same for all seeds since B = 0."""
    task = task_of(setting)
    return task.validation_loss(task.model(setting.adapter, 0))


def in_pieces(task: TensorWorkload, tokens: int) -> TensorWorkload:
    """The workload with every sequence cut into pieces of so many tokens."""

    def cut(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: values.reshape(-1, tokens) for name, values in batch.items()}

    return replace(task, train=cut(task.train), held_out=cut(task.held_out))


def noisy(task: TensorWorkload, noise: float) -> TensorWorkload:
    """The workload with labels or outputs that cannot be predicted wholly; see `Setting.noise`."""
    draw = torch.Generator().manual_seed(0)
    classes = int(task.train["labels"].max()) + 1 if "labels" in task.train else 0

    def disturbed(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not classes:
            outputs = batch["outputs"]
            return {**batch, "outputs": outputs + noise * torch.randn(outputs.shape, generator=draw)}
        labels = batch["labels"]
        chosen = torch.rand(labels.shape, generator=draw) < noise
        return {**batch, "labels": torch.where(chosen, torch.randint(classes, labels.shape, generator=draw), labels)}

    return replace(task, train=disturbed(task.train), held_out=disturbed(task.held_out))
