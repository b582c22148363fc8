"""What the runs say: losses, regrets, shares."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _regret.labels import LABELS, suffix_of
from _regret.methods import PEERS, TUNED
from _regret.paired import differences
from _regret.runs import methods_of, rates_of, run_name
from _regret.settings import DEVELOP, JUDGE_NEW, LANGUAGE, Setting, seeds_of

Results = Mapping[str, Mapping[str, Any]]
"""What the finished runs returned, by their names."""


@dataclass(frozen=True)
class Row:
    """One setting with one seed.

    Attributes:
        setting: of the row.
        seed: of the row.
        start: held-out loss before the first step.
        losses: held-out loss at the end by method, of a grid the best; infinite where every run of it diverged;
            methods of which runs are missing are left out.
        curves: of each grid the loss at every learning rate.
        rates: the best learning rate of each grid.
        at_edge: grids whose best is the smallest or largest rate that was tried.
        seconds: processor time of the training steps by method, of a grid the sum of all runs.
        wall_seconds: by the clock; depends on what else the machine did.
    """

    setting: Setting
    seed: int
    start: float
    losses: Mapping[str, float]
    curves: Mapping[str, Mapping[float, float]]
    rates: Mapping[str, float | None]
    at_edge: Sequence[str]
    seconds: Mapping[str, float]
    wall_seconds: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.setting.name} seed {self.seed}"

    @property
    def split(self) -> str:
        """Whether ``auto`` was made on this setting, judged on it, or judged on it after the others were known."""
        if self.setting in DEVELOP:
            return "develop"
        return "judge-new" if self.setting in JUDGE_NEW else "judge"

    @property
    def complete(self) -> bool:
        """Whether every method has been run."""
        return set(self.losses) == set(methods_of(self.setting))

    @property
    def peers(self) -> list[str]:
        """What needs no learning rate to be chosen and has been run."""
        return [name for name, forms in PEERS.items() if set(forms) <= set(self.losses)]

    def typical(self, grid: str) -> float:
        """Median loss over the learning rates of a grid: a rate that nobody tuned."""
        return statistics.median(self.curves[grid].values())

    def loss(self, name: str) -> float:
        """Of a method, or of a package in the better of its forms."""
        return min(self.losses[form] for form in PEERS.get(name, (name,)))

    def regret(self, name: str, against: Iterable[str] = ("adamw-cosine",)) -> float:
        """Regret of a method or package against the best of some grids, see `regret`."""
        return regret(self.loss(name), min(self.losses[grid] for grid in against))


def regret(loss: float, best: float) -> float:
    r"""$(\ell-\ell^\star)/\ell^\star$; infinite for a run that diverged.

    Raises:
        ValueError: no run of the grid arrived anywhere, so that nothing can be compared with it.
    """
    if not math.isfinite(best):
        raise ValueError("Every run of the grid diverged: choose smaller learning rates.")
    return (loss - best) / best


def rows(results: Results, settings: Iterable[Setting], seeds: Sequence[int]) -> list[Row]:
    """Setting by setting and seed by seed, those without any finished run left out."""
    found = []
    for setting in settings:
        for seed in (seed for seed in seeds_of(setting) if seed in seeds):
            runs = {method: _runs(results, setting, method, seed) for method in methods_of(setting)}
            if done := {method: own for method, own in runs.items() if None not in own.values()}:
                found.append(_row(setting, seed, done))
    return found


def _runs(results: Results, setting: Setting, method: str, seed: int) -> dict[float | None, Any]:
    return {lr: results.get(run_name(setting, method, lr, seed)) for lr in rates_of(setting, method)}


def _row(setting: Setting, seed: int, runs: Mapping[str, Mapping[float | None, Mapping[str, Any]]]) -> Row:
    by_lr = {
        method: {lr: math.inf if run["validation"] is None else run["validation"] for lr, run in own.items()}
        for method, own in runs.items()
    }
    best = {method: min(losses, key=lambda lr: losses[lr]) for method, losses in by_lr.items()}
    grids = [method for method in TUNED if method in runs]
    start = next(iter(next(iter(runs.values())).values()))["start"]
    return Row(
        setting=setting,
        seed=seed,
        start=start,
        losses={method: losses[best[method]] for method, losses in by_lr.items()},
        curves={method: by_lr[method] for method in grids},
        rates={method: best[method] for method in grids},
        at_edge=[method for method in grids if best[method] in (setting.grid[0], setting.grid[-1])],
        seconds={method: sum(run["cpu_seconds"] for run in own.values()) for method, own in runs.items()},
        wall_seconds={method: sum(run["seconds"] for run in own.values()) for method, own in runs.items()},
    )


def summary(found: Sequence[Row]) -> dict[str, float | int | None]:
    """The flat summary of complete rows; an infinite regret stays infinite, what has no rows is None.

    ``median_regret`` and ``worst_regret`` are those of ``auto`` against the best of the cosine grid, the others say
    what they are of or against. ``judged``: on the settings that nobody had looked at. ``difference``: how far ``auto``
    ends above another method, see `differences`.
    """
    result: dict[str, float | int | None] = {
        **_regrets("", found),
        "ahead_of_peers": _share(found, _ahead_of_peers),
        "settings": len({row.setting for row in found}),
        "seeds": len({row.seed for row in found}),
    }
    for split in ("develop", "judge"):
        own = [row for row in found if row.split == split]
        result |= _regrets(f"_{split}", own) | {f"ahead_of_peers_{split}": _share(own, _ahead_of_peers)}
    judged = [row for row in found if row.split == "judge-new"]
    language = [row for row in found if row.setting.workload in LANGUAGE]
    for word, own in (("judged", judged), ("language", language)):
        result |= {f"{word}_{name}": value for name, value in _regrets("", own).items()}
        result[f"{word}_ahead_of_peers"] = _share(own, _ahead_of_peers)
    result |= _regrets("_against_constant", found, ("adamw",))
    result |= _regrets("_against_both_grids", found, ("adamw", "adamw-cosine"))
    for name in ("adamw-cosine", "schedule-free", *PEERS):
        own = [row for row in found if name in row.losses or name in row.peers]
        if name != "adamw-cosine":  # which the others are compared with
            result |= _regrets(suffix_of(name), own, of=name)
        result[f"ahead_of{suffix_of(name)}"] = _share(own, lambda row, n=name: row.losses["auto"] <= row.loss(n))
        pairs = [(row.setting.name, row.regret("auto"), row.regret(name)) for row in own]
        mean, error = differences(pairs)
        result |= {f"difference{suffix_of(name)}": mean, f"difference{suffix_of(name)}_error": error}
    for method in TUNED:
        values = [regret(row.typical(method), row.losses["adamw-cosine"]) for row in found]
        result[f"median_regret_of_typical_rate{suffix_of(method)}"] = statistics.median(values)
    costs = [cost for row in found if (cost := tuning_cost(row)) is not None]
    result["tuning_cost"] = statistics.median(costs) if costs else None
    for method in TUNED:
        result[f"best_at_edge_of_grid{suffix_of(method)}"] = sum(method in row.at_edge for row in found)
    result["least_best_over_start"] = min(map(best_over_start, found))
    return result


def _ahead_of_peers(row: Row) -> bool:
    """At least as good as every package that needs no learning rate, and not diverged."""
    return math.isfinite(row.losses["auto"]) and row.losses["auto"] <= min(map(row.loss, row.peers))


def _share(found: Sequence[Row], holds: Callable[[Row], bool]) -> float | None:
    return statistics.fmean(map(holds, found)) if found else None


def _regrets(
    suffix: str, found: Sequence[Row], against: Iterable[str] = ("adamw-cosine",), of: str = "auto"
) -> dict[str, float | None]:
    values = [row.regret(of, against) for row in found]
    median, worst = (statistics.median(values), max(values)) if values else (None, None)
    return {f"median_regret{suffix}": median, f"worst_regret{suffix}": worst}


def tuning_cost(row: Row) -> float | None:
    """Time of all runs of the cosine grid over the time of the one run of ``auto``.

    None on the new settings, whose grids were run on another machine.
    """
    if row.split == "judge-new":
        return None
    return row.seconds["adamw-cosine"] / row.seconds["auto"]


def best_over_start(row: Row) -> float:
    """Best loss of the AdamW grids over the starting loss: above 5%, see `Setting.noise`."""
    return min(row.losses["adamw"], row.losses["adamw-cosine"]) / row.start


def written(row: Row) -> dict[str, Any]:
    """A complete row as it goes to the results."""
    return plain(
        {
            "setting": row.setting.name,
            "split": row.split,
            "seed": row.seed,
            "steps": row.setting.steps,
            "noise": row.setting.noise,
            "examples": row.setting.examples,
            "grid": list(row.setting.grid),
            "start": row.start,
            "best_over_start": best_over_start(row),
            "losses": row.losses,
            "typical": {grid: row.typical(grid) for grid in TUNED},
            "rates": row.rates,
            "best_at_edge": list(row.at_edge),
            "regrets": {name: row.regret(name) for name in LABELS if name in row.losses or name in row.peers},
            "cpu_seconds": row.seconds,
            "wall_seconds": row.wall_seconds,
            "tuning_cost": tuning_cost(row),
        }
    )


def grids(row: Row) -> dict[str, Any]:
    """The loss at every learning rate that was tried, of a row whose grids have been run."""
    curves = {grid: list(own.items()) for grid, own in row.curves.items()}
    return plain({"setting": row.setting.name, "split": row.split, "seed": row.seed, "curves": curves})


def plain(value: Any) -> Any:
    """Numbers with five digits, infinity as the word, maps entry by entry."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return "infinite" if math.isinf(value) else float(f"{value:.5g}")
    return value
