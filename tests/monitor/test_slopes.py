"""Slopes on unseen batches: what is measured, how sure their sum is, and the certificate made of them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.cli.app import run as command
from lorate.errors import LorateError
from lorate.monitor.certificate import certify
from lorate.monitor.slopes import FIRST, EndSlopes, SlopeSum


class Regression:
    """Least squares in one adapted layer: the true loss is known, and convex in the weights."""

    def __init__(self, seed: int, noise: float = 0.3) -> None:
        torch.manual_seed(seed)
        self.target, self.noise = torch.randn(3, 6, dtype=torch.float64), noise
        base = nn.Sequential(nn.Linear(6, 3, bias=False)).double()
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["0"])
        self.model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]

    def batch(self, size: int) -> torch.Tensor:
        x = torch.randn(size, 6, dtype=torch.float64)
        y = x @ self.target.T + self.noise * torch.randn(size, 3, dtype=torch.float64)
        return (self.model(x) - y).square().sum() / (2 * size)

    def true_loss(self) -> float:
        with torch.no_grad():
            W = self.model(torch.eye(6, dtype=torch.float64)).T
        return float((W - self.target).square().sum()) / 2 + 3 * self.noise**2 / 2


def run(
    directory: Path | None, seed: int, steps: int, optimizer: str = "adamw", size: int = 4, lr: float = 0.01
) -> Any:
    """Change of the true loss from the first step recorded to the beginning of the last, and the monitor."""
    problem = Regression(seed)
    options: dict[str, Any] = {"lr": lr}
    chosen: torch.optim.Optimizer
    if optimizer in lorate.RULES:
        chosen = lorate.create_optimizer(problem.model, optimizer, **options)
    else:
        kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
        chosen = kind(problem.trained, **options)
    before, first = math.nan, problem.true_loss()
    monitor = lorate.Monitor(directory, optimizer=chosen, model=problem.model)
    records = []
    for _ in range(steps):
        loss = problem.batch(size)
        chosen.zero_grad()
        loss.backward()
        before = problem.true_loss()
        chosen.step()
        monitor.update(chosen, loss=loss)
        records.append(monitor.record)
    monitor.close()
    return before - first, records


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_slope_is_that_of_the_move_on_the_next_batch(optimizer: str) -> None:
    problem = Regression(0)
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    chosen = kind(problem.trained, lr=0.1)
    slopes = EndSlopes(chosen)
    before: list[torch.Tensor] = []
    for step in range(5):
        chosen.zero_grad()
        problem.batch(4).backward()
        expected = sum(
            float((p.grad * (p.detach() - b)).sum()) for p, b in zip(problem.trained, before, strict=False)
        )  # fmt: skip
        moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(problem.trained, before, strict=False))
        before = [p.detach().clone() for p in problem.trained]
        chosen.step()
        assert (slopes.last is None) == (step == 0)
        if slopes.last is not None:
            assert slopes.last.slope == pytest.approx(expected)
            assert slopes.last.moved_sq == pytest.approx(moved)
    slopes.remove()
    chosen.step()
    assert slopes.last is not None  # nobody looks any more


def test_a_batch_that_is_not_finite_leaves_the_move_to_the_next() -> None:
    problem = Regression(0)
    chosen = torch.optim.SGD(problem.trained, lr=0.1)
    slopes = EndSlopes(chosen)
    starts = []
    for step in range(3):
        chosen.zero_grad()
        problem.batch(4).backward()
        starts.append([p.detach().clone() for p in problem.trained])
        if step == 1:
            gradients = [p.grad.clone() for p in problem.trained]
            problem.trained[0].grad[0, 0] = math.nan
            chosen.register_step_pre_hook(lambda *_: [p.grad.zero_() for p in problem.trained] and None)
        chosen.step()
        if step == 1:
            assert slopes.last is None
            assert gradients
    assert slopes.last is not None
    moved = sum(float((b - a).square().sum()) for a, b in zip(starts[0], starts[2], strict=True))
    assert slopes.last.moved_sq == pytest.approx(moved)


def test_a_scaler_that_leaves_the_division_to_the_optimizer() -> None:
    problem = Regression(0)
    optimizer = lorate.create_optimizer(problem.model, "normalized", lr=0.01)
    slopes = EndSlopes(optimizer)
    before: list[torch.Tensor] = []
    for scale in (1.0, 1024.0):
        optimizer.zero_grad()
        (problem.batch(4) * scale).backward()
        expected = sum(
            float((p.grad * (p.detach() - b)).sum()) / scale for p, b in zip(problem.trained, before, strict=False)
        )
        before = [p.detach().clone() for p in problem.trained]
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        optimizer.step()
    assert slopes.last is not None and slopes.last.slope == pytest.approx(expected)


def test_closures_have_no_gradient_yet() -> None:
    problem = Regression(0)
    chosen = torch.optim.SGD(problem.trained, lr=0.01)
    slopes = EndSlopes(chosen)

    def closure() -> torch.Tensor:
        chosen.zero_grad()
        loss = problem.batch(4)
        loss.backward()
        return loss

    for _ in range(3):
        chosen.step(closure)
        assert slopes.last is None


def runs_of(increments: np.ndarray, level: float) -> float:
    """How often the sum of increments of mean zero leaves its error at some time."""
    left = 0
    for row in increments:
        total = SlopeSum()
        for value in row:
            total.add(float(value))
            if -total.total > total.error(level):  # the true sum is 0
                left += 1
                break
    return left / len(increments)


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed", "growing", "shrinking"])
def test_the_error_holds_at_all_times_at_once(kind: str) -> None:
    rng = np.random.default_rng(0)
    count, steps = 300, 300
    values = rng.standard_normal((count, steps))
    if kind == "heavy":
        values = rng.standard_t(3, (count, steps))
    if kind == "skewed":
        values = 1 - rng.exponential(1.0, (count, steps))
    if kind == "growing":
        values *= np.exp(np.arange(steps) / 50)
    if kind == "shrinking":
        values *= np.exp(-np.arange(steps) / 50)
    assert runs_of(values, 0.95) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


def test_the_error_shrinks_relative_to_the_sum() -> None:
    total, rng = SlopeSum(), np.random.default_rng(0)
    for _ in range(FIRST - 1):
        total.add(-1 + rng.standard_normal())
        assert total.error() == math.inf
    ratios = []
    for _ in range(1000):
        total.add(-1 + rng.standard_normal())
        ratios.append(total.error() / -total.total)
    assert ratios[0] > 0.3 and ratios[-1] < 0.15
    assert total.upper() < 0
    assert SlopeSum(count=FIRST).error() == 0.0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "normalized"])
def test_the_estimate_lies_above_the_change_of_the_true_loss(optimizer: str) -> None:
    """20 runs at a level of 95%: one may miss, three would be a sign."""
    missed, slack = 0, []
    for seed in range(20):
        change, records = run(None, seed, 60, optimizer)
        total = SlopeSum()
        for record in records[1:]:
            total.add(record["slope"], record["moved_sq"])
        missed += change > total.upper()
        slack.append(total.upper() - change)
        assert change < 0
    assert missed <= 2
    assert np.median(slack) > 0


def test_each_record_holds_the_bound_so_far_and_a_resumed_run_goes_on_with_it(tmp_path: Path) -> None:
    _, records = run(tmp_path, 3, 60, "adamw")
    total = SlopeSum()
    for record in records:
        if record["slope"] is not None:
            total.add(record["slope"], record["moved_sq"])
        assert record["change_bound"] == (None if total.count < FIRST else pytest.approx(total.upper()))
    assert records[-1]["change_bound"] is not None
    again = lorate.Monitor(tmp_path, resume_at=60)
    assert again._history.slopes.upper() == pytest.approx(records[-1]["change_bound"])
    again.close()


def test_the_certificate_of_a_mini_batch_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, _ = run(tmp_path, 1, 200, "adamw", size=8)
    found = certify(tmp_path)
    assert found.exit_code == 0 and found.reason is None
    (line,) = found.lines
    assert line.standing == "statistical" and line.claim.startswith("The true loss fell by at least")
    claimed = float(line.claim.split("at least ")[1].split()[0])
    assert 0 < claimed <= -change
    assert command(["certify", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("statistical", "95%", "not clipped", "does not curve downwards", "any single step"):
        assert part in said


def test_a_monitor_that_comes_after_the_first_step_speaks_of_what_it_saw(tmp_path: Path) -> None:
    """The usual loop: the monitor first sees lorate's optimizer when its first step is done."""
    problem = Regression(2)
    optimizer = lorate.create_optimizer(problem.model, "normalized", lr=0.02)
    starts = []
    with lorate.Monitor(tmp_path) as monitor:
        for _ in range(150):
            starts.append(problem.true_loss())
            loss = problem.batch(8)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(loss=loss)
            monitor.update(optimizer)
    found = certify(tmp_path)
    assert found.reason is None
    assert "from before step 2 to before step 150" in found.lines[0].claim
    claimed = float(found.lines[0].claim.split("at least ")[1].split()[0])
    assert 0 < claimed <= starts[1] - starts[-1]


def test_a_short_run_and_one_with_closures_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "short", 0, FIRST, "sgd")
    assert f"needs {FIRST} slopes on unseen batches, and there are {FIRST - 1}" in str(
        certify(tmp_path / "short").reason
    )
    problem = Regression(0)
    optimizer = lorate.create_optimizer(problem.model, "normalized")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = problem.batch(4)
        loss.backward()
        return loss

    with lorate.Monitor(tmp_path / "closures") as monitor:
        for _ in range(30):
            optimizer.step(closure)
            monitor.update(optimizer)
    assert "no slopes on unseen batches were recorded" in str(certify(tmp_path / "closures").reason)


def test_after_a_hole_in_the_slopes_the_sum_begins_again(tmp_path: Path) -> None:
    run(tmp_path, 0, 60, "sgd")
    file = tmp_path / "metrics.jsonl"
    records = [json.loads(text) for text in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(r | ({"slope": None} if r["step"] == 30 else {})) + "\n" for r in records))
    (line,) = certify(tmp_path).lines
    assert "from before step 30 to before step 60" in line.claim and "over 30 moves" in line.figures
    again = lorate.Monitor(tmp_path, resume_at=60)
    assert again._history.slopes.count == 30
    again.close()
    file.write_text("".join(json.dumps(r) + "\n" for r in records if r["step"] != 30))
    assert "jump from step 29 to step 31" in str(certify(tmp_path).reason)


def test_other_optimizers_have_to_be_given_before_their_first_step() -> None:
    problem = Regression(0)
    chosen = torch.optim.AdamW(problem.trained)
    with pytest.raises(LorateError, match=r"AdamW is not lorate's, so the monitor has to see it before"):
        lorate.Monitor().update(chosen)
    with pytest.raises(LorateError, match=r"AdamW is not lorate's"):
        lorate.Monitor(optimizer=chosen)
    monitor = lorate.Monitor(optimizer=chosen, model=problem.model)
    with pytest.raises(LorateError, match="no step was taken yet"):
        monitor.update(chosen)
    monitor.close()


def test_a_run_of_another_optimizer_can_be_drawn(tmp_path: Path) -> None:
    run(tmp_path, 0, 60, "adamw")
    assert command(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "AdamW" in page and "statistical" in page


def test_steps_that_end_uphill_raise_an_alarm_before_the_loss_is_up() -> None:
    problem = Regression(0, noise=0.0)
    chosen = torch.optim.SGD(problem.trained, lr=0.05)
    monitor = lorate.Monitor(optimizer=chosen, model=problem.model)
    kinds: dict[str, int] = {}
    for step in range(1, 400):
        for group in chosen.param_groups:
            group["lr"] = 0.05 * 1.02**step
        loss = problem.batch(8)
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        for alarm in monitor.update(chosen, loss=loss):
            kinds.setdefault(alarm.kind, step)
        if "diverging" in kinds:
            break
    assert kinds["rising"] < kinds["diverging"]
    assert "rising" not in {alarm["kind"] for record in run(None, 0, 100, "sgd")[1] for alarm in record["alarms"]}
