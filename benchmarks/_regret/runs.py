"""The list of all runs."""

from collections.abc import Collection, Iterator

from _regret.methods import METHODS, TUNED
from _regret.settings import DEVELOP, GRIDS, JUDGE, JUDGE_NEW, LANGUAGE, SEEDS, Setting, seeds_of
from _regret.training import train
from lorate.sweep import Run


def run_name(setting: Setting, method: str, lr: float | None, seed: int) -> str:
    """Names a run and its file."""
    return f"{setting.name}.{method}{'' if lr is None else f'.lr={lr:g}'}.seed={seed}"


def rates_of(setting: Setting, method: str) -> tuple[float | None, ...]:
    """The learning rates that a method is run with."""
    return setting.grid if method in TUNED else (None,)


def methods_of(setting: Setting) -> tuple[str, ...]:
    """Every method that a setting can be run with."""
    return tuple(method for method in METHODS if method != "adamw-formula" or setting.workload in LANGUAGE)


def all_runs(
    settings: Collection[Setting] = DEVELOP + JUDGE + JUDGE_NEW,
    methods: Collection[str] = tuple(METHODS),
    seeds: Collection[int] = SEEDS,
) -> Iterator[Run]:
    """One run a method, learning rate and seed; workload by workload, the cheapest first."""
    for setting in sorted(settings, key=lambda one: list(GRIDS).index(one.workload)):
        for seed in (seed for seed in seeds_of(setting) if seed in seeds):
            for method in (method for method in methods_of(setting) if method in methods):
                for lr in rates_of(setting, method):
                    arguments = {"setting": setting.arguments, "method": method, "lr": lr, "seed": seed}
                    yield Run(run_name(setting, method, lr, seed), train, arguments)
