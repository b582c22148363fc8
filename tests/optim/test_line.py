"""The line of a step: groups stretch it, trials leave nothing behind."""

import math

import pytest
import torch

import lorate
from lorate.adapters import find_pairs
from optim.test_every_rule import Task, adapters_of
from peft_models import linear_model

X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rule", ["majorizer", "auto", "adaptive-loss"])
@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_a_group_moves_by_its_multiplier_relative_to_the_first(rule: str, ratio: float) -> None:
    model = linear_model()
    pairs = find_pairs(model)
    given = {"smoothness": 50.0} if rule == "majorizer" else {}
    if rule == "majorizer":
        rule = lorate.rules.Majorizer(50.0, per_layer=False)
        given = {}
    optimizer = lorate.create_optimizer(
        model,
        rule,
        lr=0.5,
        direction=None if rule == "adaptive-loss" else torch.optim.SGD,
        groups=[{"params": [pair.B for pair in pairs], "lr": 0.5 * ratio}],
        **given,
    )
    before = {id(p): p.detach().clone() for p in model.parameters()}
    (loss := model(X).square().mean()).backward()
    optimizer.step(loss=loss.detach())

    def moved(p: torch.Tensor) -> float:
        return float((p.detach() - before[id(p)]).norm() / p.grad.norm())

    for pair in pairs:
        assert moved(pair.B) == pytest.approx(ratio * moved(pair.A), rel=1e-9)


def test_the_first_group_that_moves_is_the_reference() -> None:
    model = linear_model()
    pairs = find_pairs(model)
    groups = [{"params": [pair.A for pair in pairs], "lr": 0.0}, {"params": [pair.B for pair in pairs], "lr": 0.5}]
    optimizer = lorate.create_optimizer(model, "auto", groups=groups)
    before = [pair.A.detach().clone() for pair in pairs]
    (loss := model(X).square().mean()).backward()
    optimizer.step(loss=loss.detach())
    assert optimizer.last.lr == 0.5
    assert all(torch.equal(pair.A, kept) for pair, kept in zip(pairs, before, strict=True))


def test_batch_norm_does_not_count_a_trial_that_was_refused() -> None:
    torch.manual_seed(0)
    task, twin = Task("backtracking"), Task("backtracking")
    for one in (task, twin):
        one.model.base_model.model.append(torch.nn.BatchNorm1d(6).double())
        one.train(1)
    passes = 0

    def dear() -> torch.Tensor:
        """The first trials look worse than they are, so they are refused."""
        nonlocal passes
        passes += 1
        loss = task.closure()
        return loss.detach() + (10.0 if 1 < passes < 4 else 0.0)

    norm = task.model.base_model.model[-1]
    task.optimizer.step(dear)
    assert task.optimizer.last.skipped is None and passes >= 4
    assert int(norm.num_batches_tracked) == 2 + 2  # the first step's two passes, then the first and the accepted one


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_auto_takes_a_step_back_after_two_batches_whose_gradient_overflows(fault: float) -> None:
    task = Task("auto")
    task.train(6)
    before = adapters_of(task.model)
    task.train(1)
    after, eta = adapters_of(task.model), task.optimizer.rule.control.eta

    def overflowing() -> torch.Tensor:
        loss = task.closure()
        if loss.requires_grad:
            next(p for p in task.model.parameters() if p.grad is not None).grad.fill_(fault)
        return loss

    task.optimizer.step(overflowing)
    assert "is not finite" in task.optimizer.last.skipped and torch.equal(adapters_of(task.model), after)
    task.optimizer.step(overflowing)
    assert "taken back" in task.optimizer.last.skipped
    torch.testing.assert_close(adapters_of(task.model), before, rtol=1e-9, atol=1e-12)
    assert task.optimizer.rule.control.eta == eta / 4
    task.train(1)
    assert task.optimizer.last.skipped is None
