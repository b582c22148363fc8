"""The best constant of each rule: fair grids, diverged seeds never chosen."""

import math
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate_papers.training.tuning import constants, tune


def runs(rule: str, losses: dict[float | None, list[float | None]]) -> list[dict[str, Any]]:
    return [
        {"rule": rule, "lr": lr, "final_loss": value, "final_validation": value and 1 / value}
        for lr, values in losses.items()
        for value in values
    ]


def test_the_mean_over_the_seeds_decides_and_a_diverged_seed_excludes() -> None:
    grid = {0.1: [3.0, 3.0], 1.0: [1.0, 2.0], 10.0: [0.1, None]}
    tuned = tune(runs("adaptive", grid))["adaptive"]
    assert (tuned.lr, tuned.loss, tuned.at_edge) == (1.0, 1.5, False)
    assert tuned.by_lr == {0.1: 3.0, 1.0: 1.5, 10.0: math.inf}


def test_the_edge_of_the_grid_is_told_and_validation_can_decide() -> None:
    grid = {0.1: [3.0], 1.0: [2.0], 10.0: [1.0]}
    assert tune(runs("adaptive", grid))["adaptive"].at_edge
    assert tune(runs("adaptive", grid), by="final_validation")["adaptive"].lr == 0.1


def test_rules_without_a_constant_stand_beside_grids_but_grids_differ_not() -> None:
    fixed = runs("theory", {None: [1.0]})
    grid = runs("adaptive", {0.1: [3.0], 1.0: [2.0]})
    found = tune([*fixed, *grid])
    assert found["theory"].lr is None and not found["theory"].at_edge and found["adaptive"].lr == 1.0
    with pytest.raises(LorateError, match=r"sizes are \[2, 3\]"):
        tune([*grid, *runs("normalized", {0.1: [1.0], 1.0: [1.0], 10.0: [1.0]})])
    with pytest.raises(LorateError, match=r"seeds \[1, 2\]"):
        tune([*grid, *runs("normalized", {0.1: [1.0, 1.0], 1.0: [1.0, 1.0]})])


def test_grids_are_even_in_the_logarithm() -> None:
    assert constants(0.001, 10, 5) == (0.001, 0.01, 0.1, 1.0, 10.0)
