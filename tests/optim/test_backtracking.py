"""Backtracking: monotone, nothing to choose, cheap."""

import itertools
import math

import pytest
import torch
from torch import nn

import lorate
from lorate.errors import LorateError
from optim.known_problems import closure_of, problem, trained
from peft_models import linear_model


def run(model: nn.Module, loss, steps: int, **options: object) -> tuple[list[float], int, torch.optim.Optimizer]:
    """Losses, evaluations and the optimizer."""
    optimizer = lorate.create_optimizer(model, "backtracking", **options)
    closure = closure_of(model, optimizer, loss)
    evaluations = 0

    def counted() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return closure()

    reported = 0
    losses = []
    for _ in range(steps):
        losses.append(optimizer.step(counted).item())
        reported += optimizer.last.evaluations
    assert reported == evaluations
    return losses, evaluations, optimizer


@pytest.mark.parametrize("direction", [None, torch.optim.AdamW])
@pytest.mark.parametrize("kind", ["logistic", "squares"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss_never_rises_and_trials_are_few(kind: str, direction, dtype: torch.dtype) -> None:
    model, loss, _ = problem(kind, bias=True, dtype=dtype)
    losses, evaluations, _ = run(model, loss, 80, direction=direction)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert 1 <= evaluations / 80 <= 2.5
    assert losses[-1] < losses[0]


def test_a_non_convex_loss_with_tanh() -> None:
    x = torch.randn(20, 6, dtype=torch.float64)
    losses, evaluations, _ = run(linear_model(layers=3), lambda m: (m(x) - x.roll(1, 0)).square().mean(), 100)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.8 * losses[0] and evaluations <= 250


@pytest.mark.parametrize("kind", ["logistic", "squares"])
def test_the_first_smoothness_does_not_matter(kind: str) -> None:
    results = []
    for first in (1e-3, 1.0, 1e3):
        model, loss, _ = problem(kind)
        losses, _, _ = run(model, loss, 60, smoothness=first)
        results.append(losses)
    assert results[0] == results[1] == results[2]


def test_what_was_tried_is_what_is_promised_and_smoothness_is_kept() -> None:
    model, loss, _ = problem("squares")
    optimizer = lorate.create_optimizer(model, "backtracking")
    closure = closure_of(model, optimizer, loss)
    for _ in range(60):
        before = optimizer.step(closure).item()
        assert before - loss(model).item() >= optimizer.last.guarantee - 1e-14 * before
        assert optimizer.rule.state_dict()["found"] == optimizer.last.smoothness


def test_it_beats_theory_by_far() -> None:
    model, loss, L = problem("logistic")
    losses, _, _ = run(model, loss, 30)
    twin, twin_loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(twin, "theory", smoothness=L)
    closure = closure_of(twin, optimizer, twin_loss)
    for _ in range(300):
        last = optimizer.step(closure).item()
    assert losses[-1] < last


def test_changed_parameters_and_gradients_are_noticed() -> None:
    model, loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(model, "backtracking")
    closure = closure_of(model, optimizer, loss)
    optimizer.step(closure)
    optimizer.step(closure)
    cheap = optimizer.last.evaluations
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(0.5)
    expected = loss(model).item()
    assert optimizer.step(closure).item() == expected
    optimizer.zero_grad()
    expected = loss(model).item()
    assert optimizer.step(closure).item() == expected and optimizer.last.skipped is None
    assert cheap == 1


def test_a_missing_closure_is_explained_and_changes_nothing() -> None:
    model, loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(model, "backtracking")
    loss(model).backward()
    before = trained(model)
    with pytest.raises(LorateError, match=r"needs a closure: optimizer.step\(closure\)"):
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())
    assert optimizer.last is None and optimizer.param_groups[0]["steps"] == 0


@pytest.mark.parametrize("fails", [2, 3])
def test_a_closure_that_raises_leaves_the_parameters(fails: int) -> None:
    model, loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(model, "backtracking")
    closure, calls = closure_of(model, optimizer, loss), 0

    def fragile() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise RuntimeError("out of memory")
        return closure()

    states = [trained(model)]
    with pytest.raises(RuntimeError, match="out of memory"):
        while True:
            optimizer.step(fragile)
            states.append(trained(model))
    assert all(torch.equal(value, states[-1][name]) for name, value in trained(model).items())
    optimizer.step(fragile)
    assert optimizer.last.skipped is None


def test_a_loss_that_only_rises_ends_the_search() -> None:
    """The gradient lies: no step lowers the loss. The parameters come back bit for bit, L too."""
    model, loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(model, "backtracking")
    optimizer.step(closure_of(model, optimizer, loss))
    before, L, calls = trained(model), optimizer.rule.found, 0

    def liar() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value.detach() + calls

    optimizer.step(liar)
    assert "no step along the direction lowers the loss" in optimizer.last.skipped
    assert optimizer.last.evaluations == calls == 41
    assert optimizer.rule.found == L
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())


def test_trials_that_are_not_finite_are_refused() -> None:
    model, loss, _ = problem("squares")
    optimizer = lorate.create_optimizer(model, "backtracking")
    closure = closure_of(model, optimizer, loss)
    start = trained(model)

    def brittle() -> torch.Tensor:
        value = closure()
        moved = sum(float((p.detach() - start[n]).square().sum()) for n, p in model.named_parameters() if n in start)
        return value * math.nan if moved > 1e-4 else value

    optimizer.step(brittle)
    assert optimizer.last.skipped is None and optimizer.last.evaluations > 2
    assert math.isfinite(loss(model).item())


def test_a_closure_that_returns_nothing_is_explained_and_changes_nothing() -> None:
    model, loss, _ = problem("logistic")
    optimizer = lorate.create_optimizer(model, "backtracking")
    before = trained(model)
    with pytest.raises(LorateError, match="the closure must return the loss, got None"):
        optimizer.step(lambda: loss(model).backward())
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())


def test_state_of_another_rule_is_refused() -> None:
    model, _, L = problem("logistic")
    other = lorate.create_optimizer(model, "majorizer", smoothness=L)
    optimizer = lorate.create_optimizer(model, "backtracking")
    with pytest.raises(LorateError, match="saved under rule 'majorizer', but this one has rule 'backtracking'"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.rule.found is None
