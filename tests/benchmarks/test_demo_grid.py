"""The search in a grid of learning rates, and that what it is compared with is the demo."""

import math
from pathlib import Path

from demo_grid import GRID, GUESSES, demo_config, neighbours

ROOT = Path(__file__).parents[2]


def test_the_search_ends_when_the_best_lies_between_two_worse_ones_or_at_the_end_of_the_grid():
    assert neighbours({2: 1.0, 3: 0.9, 4: 1.1}) == set()
    assert neighbours({2: 0.8, 3: 0.9, 4: 1.1}) == {1}
    assert neighbours({4: 1.1, 5: 0.9, 6: 0.8}) == {7}
    assert neighbours({5: 1.1, 6: 0.9, 7: 0.8}) == set() and len(GRID) == 8
    assert neighbours({4: math.inf, 5: 0.9, 6: math.inf}) == set()


def test_it_trains_with_the_options_of_the_demo():
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "lorate train" in line]
    (steps,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("DEMO_STEPS")]
    demo = demo_config(*next(iter(GUESSES)), seed=0)
    assert f"--train-on {demo.train_on} --max-length {demo.max_length}" in line
    assert int(steps.split()[-1]) == demo.steps
    assert (demo.rank, demo.alpha) == (8, 16)
