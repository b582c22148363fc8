"""What must hold under every rule of `lorate.RULES`; a new rule is tested here as soon as it is in the table."""

import contextlib
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lorate
from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules import RULES, Rule, StepSizes
from optim.every_rule import MINI_BATCH, options
from peft_models import linear_model

ROOT = Path(__file__).parents[2]
X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
ALL = list(RULES)


class Task:
    """A model, an optimizer, and one closure; the whole data, so that it suits every rule."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, **more):
        self.model = linear_model(dtype)
        self.x, self.y = X.to(dtype), Y.to(dtype)
        self.optimizer = lorate.create_optimizer(self.model, **{**options(name), **more})
        self.closure = self._closure

    def _closure(self) -> torch.Tensor:
        loss = (self.model(self.x) - self.y).square().mean()
        if loss.requires_grad:
            self.optimizer.zero_grad()
            loss.backward()
        return loss

    def train(self, steps: int) -> list[float]:
        return [float(torch.as_tensor(self.optimizer.step(self.closure)).detach()) for _ in range(steps)]

    def adapters(self) -> torch.Tensor:
        return adapters_of(self.model)


def adapters_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters() if p.requires_grad])


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", ALL)
def test_the_readme_loop_runs_and_lowers_the_loss(name: str) -> None:
    task = Task(name)
    losses = task.train(30)
    with task.optimizer.averaged():
        averaged = float(task.closure().detach())
    task.optimizer.finish()
    assert min(losses[-1], averaged) < losses[0]
    assert hooks_of(task.model) == 0
    assert task.optimizer.last.number == 30


@pytest.mark.parametrize("name", ALL)
def test_training_goes_on_after_finish(name: str) -> None:
    task, whole = Task(name), Task(name)
    task.train(4)
    task.optimizer.finish()
    task.optimizer.use_last()
    task.train(4)
    whole.train(8)
    assert torch.equal(task.adapters(), whole.adapters())


@pytest.mark.parametrize("name", ALL)
def test_only_rules_that_average_have_an_average(name: str) -> None:
    task = Task(name)
    task.train(6)
    last = task.adapters()
    with task.optimizer.averaged():
        assert torch.equal(task.adapters(), last) == (RULES[name].average_exponent is None)
    assert torch.equal(task.adapters(), last)


@pytest.mark.parametrize("name", MINI_BATCH)
def test_a_loss_and_a_replay_do_as_a_closure_does(name: str) -> None:
    task, twin = Task(name), Task(name)
    task.train(12)
    for _ in range(12):
        twin.closure()
        twin.optimizer.replay = twin.closure
        twin.optimizer.step(loss=(twin.model(twin.x) - twin.y).square().mean().detach())
    assert torch.equal(task.adapters(), twin.adapters())


@pytest.mark.parametrize("name", ALL)
def test_step_sizes_are_what_the_optimizer_uses(name: str) -> None:
    task = Task(name)
    sizes: list[StepSizes] = []
    rule = task.optimizer.rule
    asked = type(rule).step_sizes

    def spy(self: Rule, measurement: Measurement, line: object = None) -> StepSizes:
        sizes.append(asked(self, measurement, line))
        return sizes[-1]

    type(rule).step_sizes = spy
    try:
        task.train(3)
    finally:
        type(rule).step_sizes = asked
    for one in sizes:
        assert np.isfinite(one.layers).all() and (one.layers >= 0).all() and one.rest >= 0
    assert task.optimizer.last.eta == task.optimizer.last.lr * sizes[-1].eta


@pytest.mark.parametrize("name", ALL)
def test_a_rule_that_is_given_stays_as_it_was(name: str) -> None:
    rule = lorate.make_rule(name, options(name).get("smoothness"))
    before = copy.deepcopy(rule.state_dict())
    task = Task(name, rule=rule, smoothness=None)
    task.train(3)
    assert rule.state_dict() == before


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_that_is_not_finite_changes_nothing(name: str) -> None:
    task = Task(name)
    task.train(3)
    before, y = task.adapters(), task.y
    task.y = y * torch.nan
    task.optimizer.step(task._closure)
    assert task.optimizer.last.skipped
    assert torch.equal(task.adapters(), before)
    task.y = y
    task.train(1)
    assert task.optimizer.last.skipped is None


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_gradient_that_is_not_finite_beside_a_finite_loss_changes_nothing(name: str, value: float) -> None:
    task = Task(name)
    task.train(3)
    before = task.adapters()

    def overflowing() -> torch.Tensor:
        loss = task.closure()
        if loss.requires_grad:
            next(p.grad for p in task.model.parameters() if p.grad is not None)[0, 0] = value
        assert loss.isfinite()
        return loss

    task.optimizer.step(overflowing)
    assert "is not finite" in task.optimizer.last.skipped
    assert torch.equal(task.adapters(), before)
    task.train(1)
    assert task.optimizer.last.skipped is None


@pytest.mark.parametrize("name", ALL)
def test_frozen_parameters_stay_whatever_gradient_they_have(name: str) -> None:
    task = Task(name)
    task.train(3)
    for parameter in task.model.parameters():
        parameter.requires_grad_(False)
    before = torch.cat([p.detach().flatten().clone() for p in task.model.parameters()])
    with contextlib.suppress(LorateError):  # rules that measure G say that no backward pass was seen
        task.optimizer.step(task.closure)
    assert torch.equal(torch.cat([p.detach().flatten() for p in task.model.parameters()]), before)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("through", ["pickle", "deepcopy"])
def test_copies_go_on_with_the_same_numbers(name: str, through: str) -> None:
    task = Task(name)
    task.train(5)
    copied = pickle.loads(pickle.dumps((task.model, task.optimizer))) if through == "pickle" else None
    model, optimizer = copied or copy.deepcopy((task.model, task.optimizer))
    assert optimizer.rule.state_dict() == task.optimizer.rule.state_dict()
    if "weight-gradient" in RULES[name].needs:
        with pytest.raises(LorateError, match="build the optimizer with"):
            (model(task.x) - task.y).square().mean().backward()
            optimizer.step()
        return

    def closure() -> torch.Tensor:
        loss = (model(task.x) - task.y).square().mean()
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    task.train(5)
    assert torch.equal(
        torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]), task.adapters()
    )


@pytest.mark.parametrize("name", ["constant", "adaptive", "auto"])
def test_a_compiled_step(name: str) -> None:
    task, plain = Task(name), Task(name)
    compiled = torch.compile(task.optimizer.step, backend="eager")
    for _ in range(3):
        compiled(task.closure)
    plain.train(3)
    assert torch.equal(task.adapters(), plain.adapters())


@pytest.mark.parametrize("name", ["normalized", "auto"])
def test_values_above_the_root_of_the_largest_float32_are_called_what_they_are(name: str) -> None:
    task = Task(name, torch.float32)
    task.closure()
    for parameter in task.model.parameters():
        if parameter.grad is not None:
            parameter.grad *= 1e22
    task.optimizer.step(loss=1.0)
    assert "long, and its square overflows float32" in task.optimizer.last.skipped
    assert 1e20 < task.optimizer.last.measurement.gradient_norm < 1e25


def test_adapters_above_the_root_of_the_largest_float32_are_finite() -> None:
    task = Task("constant", torch.float32, lr=1e22)
    task.train(1)
    task.closure()
    for parameter in task.model.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(1e-3)
    task.optimizer.step(loss=1.0)
    assert 1.9e19 < task.optimizer.last.measurement.stacked_norm < 1e25


@pytest.mark.slow
def test_the_readme_loop_is_typed(tmp_path: Path) -> None:
    """The types are the same under every rule, and so is what the loop calls."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    loop = readme.split("**A plain PyTorch loop**")[1].split("```python\n")[1].split("```")[0]
    untyped = "loss.backward()"  # torch's own
    assert untyped in loop
    loop = loop.replace(untyped, f"{untyped}  # type: ignore[no-untyped-call]")
    (tmp_path / "loop.py").write_text(loop, encoding="utf-8")
    check = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", str(tmp_path / "loop.py")]
    checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
