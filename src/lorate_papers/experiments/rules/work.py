"""What the runs do: one rule on one task, over its grid and then at its best constant."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuning import Criterion, choose


def over_grid(
    workload: str,
    rule: str,
    adapter: Mapping[str, Any],
    grid: Sequence[float],
    steps: int,
    batch: int | None,
    validate_every: int | None,
    seeds: Sequence[int],
    by: Criterion,
    quick: bool,
    data: str | None,
) -> Values:
    """Every constant on the first seed, then the best one on all seeds with the held-out loss on the way."""

    def run(lr: float, seed: int, every: int | None = validate_every) -> Values:
        return train_under_rule(
            workload, adapter, rule, lr, steps, batch, seed, quick=quick, data=data, validate_every=every
        )

    best = choose(grid, seeds, lambda lr: run(lr, seeds[0], None), run, by)
    names = ("lr", "first_loss", "final_loss", "final_validation", "diverged", "steps")
    return {
        "grid": [{name: trial[name] for name in names} for trial in best.trials],
        "best": best.lr,
        "at_edge": best.at_edge,
        "refused": best.refused,
        "runs": best.runs,
    }
