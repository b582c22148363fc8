"""Calibration on a made-up loss, from end to end: what is run, what is found, what is kept."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lorate.calibration import Sweep, calibrate, halving
from lorate.calibration.halving import Halving
from lorate.errors import LorateError

pytest.importorskip("matplotlib")
GRID = tuple(4.0 * 2**k for k in range(11))


class World:
    """Losses by formula: the best alpha is ``c·r^p`` for long runs, four times larger for short ones."""

    def __init__(self, c: float = 40.0, p: float = 0.5, short: int = 25) -> None:
        self.c, self.p, self.short = c, p, short
        self.calls: list[tuple[int, float, float, int, int]] = []

    def __call__(
        self, own: Any, rank: int, alpha: float, lr: float, steps: int, batch_size: int, seed: int
    ) -> dict[str, Any]:
        self.calls.append((rank, alpha, lr, steps, seed))
        best = self.c * rank**self.p * 1e-4 / lr * (4 if steps <= self.short else 1)
        loss = 2 + 0.05 * math.log(alpha / best) ** 2 + 0.01 * seed + (lr != 1e-4)
        return {"loss": None if alpha > 60 * best else loss, "first_loss": 3.0}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(halving, "train_point", made)
    return made


def sweep(**options: Any) -> Sweep:
    return Sweep(**{"ranks": (1, 4, 16, 64), "alphas": GRID, **options})


def test_what_is_written(world: World, tmp_path: Path) -> None:
    outcome = calibrate(sweep(), tmp_path / "out", jobs=1, command="lorate alpha calibrate")
    content = json.loads((tmp_path / "out" / "alpha.json").read_text())
    assert content["c"] == pytest.approx(40) and content["exponent"] == pytest.approx(0.5)
    assert content["interval"] == pytest.approx([0.5, 0.5], abs=1e-6) and content["contains_half"] is True
    assert content["lr"] == 1e-4 and content["steps"] == 100 and content["optimizer"] == "AdamW"
    assert content["recommended"][2] == pytest.approx({"rank": 16, "alpha": 160, "low": 160, "high": 160}, rel=1e-6)
    assert [one["alpha"] for one in content["best"]] == pytest.approx([40, 80, 160, 320])
    assert outcome.fit.c == content["c"] and outcome.lr == 1e-4
    for kind in ("png", "svg"):
        assert (tmp_path / "out" / "figures" / f"alpha.{kind}").stat().st_size > 3000
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert info["status"] == "finished" and info["command"] == "lorate alpha calibrate"


def test_hopeless_points_get_a_quarter_of_the_steps_and_one_seed(world: World, tmp_path: Path) -> None:
    calibrate(sweep(), tmp_path / "out", jobs=1)
    short = [call for call in world.calls if call[3] == 25]
    full = [call for call in world.calls if call[3] == 100]
    assert len(short) + len(full) == len(world.calls) and len(short) == 4 * 11 and {call[4] for call in short} == {0}
    tried = {(rank, alpha) for rank, alpha, *_ in full}
    assert len(full) == 2 * len(tried) and len(tried) <= 4 * 8
    # alpha = 40 is best at rank 1, and 160 in short runs: what lies below was screened out and found again
    assert {(1, 32.0), (1, 64.0), (1, 16.0)} <= tried and (1, 4.0) not in tried


def test_the_same_call_repeats_nothing_and_a_finer_one_adds(world: World, tmp_path: Path) -> None:
    calibrate(sweep(alphas=GRID[::2]), tmp_path / "out", jobs=1)
    before = len(world.calls)
    calibrate(sweep(alphas=GRID[::2]), tmp_path / "out", jobs=1)
    assert len(world.calls) == before
    calibrate(sweep(), tmp_path / "out", jobs=1)
    assert len(set(world.calls)) == len(world.calls) > before
    with pytest.raises(LorateError, match="holds another run"):
        calibrate(sweep(steps=50), tmp_path / "out", jobs=1)


def test_an_interrupted_sweep_goes_on(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**given: Any) -> Any:
        if len(world.calls) == 50:
            raise KeyboardInterrupt
        return world(**given)

    monkeypatch.setattr(halving, "train_point", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(sweep(), tmp_path / "out", jobs=1)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    monkeypatch.setattr(halving, "train_point", world)
    calibrate(sweep(), tmp_path / "out", jobs=1)
    assert len(set(world.calls)) == len(world.calls)


def test_an_exponent_that_is_not_a_half_is_said_and_used(world: World, tmp_path: Path) -> None:
    world.p = 0.0
    outcome = calibrate(sweep(), tmp_path / "out", jobs=1)
    assert outcome.content["contains_half"] is False
    assert [one["alpha"] for one in outcome.content["recommended"]] == pytest.approx([40] * 4)


def test_each_learning_rate_has_its_fit_and_the_better_one_is_recommended(world: World, tmp_path: Path) -> None:
    outcome = calibrate(sweep(lrs=(1e-4, 4e-4)), tmp_path / "out", jobs=1)
    assert outcome.lr == 1e-4 and outcome.content["c"] == pytest.approx(40)
    assert outcome.content["by_lr"]["0.0004"]["c"] == pytest.approx(10)
    assert {file.name for file in (tmp_path / "out" / "figures").glob("*.svg")} == {
        "alpha-lr-0.0001.svg", "alpha-lr-0.0004.svg",
    }  # fmt: skip


def test_every_run_diverged(world: World, tmp_path: Path) -> None:
    world.c = 1e-3
    with pytest.raises(LorateError, match="every run of the sweep diverged; take a smaller learning rate, or smaller"):
        calibrate(sweep(), tmp_path / "out", jobs=1)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"
    assert not any(steps == 100 for *_, steps, _ in world.calls) and not (tmp_path / "out" / "alpha.json").exists()


def test_a_grid_that_misses_the_best_says_where_to_look_and_draws_it(world: World, tmp_path: Path) -> None:
    with pytest.raises(LorateError, match=r"at the edge of those tried for all ranks but 0 .*try alphas beyond"):
        calibrate(sweep(alphas=(4, 8, 16)), tmp_path / "out", jobs=1)
    assert (tmp_path / "out" / "figures" / "alpha.svg").exists()
    assert calibrate(sweep(), tmp_path / "out", jobs=1).fit.c == pytest.approx(40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranks": (8,)}, "needs at least two ranks, got 8"),
        ({"ranks": (8, 8)}, "needs at least two ranks, got 8"),
        ({"ranks": ()}, "needs at least two ranks, got none"),
        ({"alphas": (16,)}, "needs at least two alphas, got 16"),
        ({"lrs": ()}, "needs at least one learning rate, got none"),
        ({"ranks": (0, 8)}, "ranks must be whole numbers of at least 1, got 0"),
        ({"ranks": (2.5, 8)}, "ranks must be whole numbers of at least 1, got 2.5"),
        ({"alphas": (-1, 16)}, "alphas must be finite numbers above 0, got -1"),
        ({"alphas": (16, math.inf)}, "alphas must be finite numbers above 0, got inf"),
        ({"lrs": (0.0,)}, "lrs must be finite numbers above 0, got 0.0"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"seeds": 0}, "seeds must be 1 or more"),
        ({"own": {"modle": "x"}}, r"unknown option 'modle'; did you mean model\?"),
    ],
)
def test_sweeps_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        sweep(**options)


def test_jobs_below_one(tmp_path: Path) -> None:
    with pytest.raises(LorateError, match="jobs must be at least 1, got 0"):
        calibrate(sweep(), tmp_path / "out", jobs=0)


def test_halving_ends_where_neighbours_diverged(world: World) -> None:
    world.c, world.short = 3.0, 0

    def execute(runs: Any) -> dict[str, Any]:
        return {run.name: run.function(**run.arguments) for run in runs}

    trained = Halving(sweep(seeds=1), execute).run()
    assert trained[1e-4, 1][256.0] == [None]  # 60 times the best: gone in the short run already
    assert not any(call[1] == 256.0 and call[3] == 100 and call[0] == 1 for call in world.calls)
