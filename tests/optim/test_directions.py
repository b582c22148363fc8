"""Majorizer steps along the direction of another optimizer."""

import functools

import pytest
import torch
from torch import Tensor

import lorate
from lorate.adapters import find_pairs
from lorate.errors import LorateError
from optim.known_problems import closure_of, problem, trained

DIRECTIONS = [
    torch.optim.AdamW,
    functools.partial(torch.optim.AdamW, lr=0.1, betas=(0.5, 0.9)),
    functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
]


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", ["logistic", "squares"])
def test_descent_along_any_direction(direction, kind: str, per_layer: bool) -> None:
    model, loss, L = problem(kind, bias=True)
    rule = lorate.rules.Majorizer(L, per_layer=per_layer)
    optimizer = lorate.create_optimizer(model, rule, direction=direction)
    closure = closure_of(model, optimizer, loss)
    losses = []
    for _ in range(30):
        losses.append(optimizer.step(closure).item())
        if optimizer.last.skipped is None:
            assert losses[-1] - loss(model).item() >= optimizer.last.guarantee - 1e-13
    assert losses[-1] < losses[0]


def test_the_direction_is_that_of_the_optimizer() -> None:
    """One global step of the majorizer along AdamW's own update from the same state."""
    model, loss, L = problem("logistic", bias=True)
    twin, twin_loss, _ = problem("logistic", bias=True)
    optimizer = lorate.create_optimizer(
        model, lorate.rules.Majorizer(L, per_layer=False), direction=functools.partial(torch.optim.AdamW, lr=0.01)
    )
    adamw = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], lr=0.01)
    before = trained(model)
    optimizer.step(closure_of(model, optimizer, loss))
    closure_of(twin, adamw, twin_loss)()
    adamw.step()
    eta = optimizer.last.eta
    for name, value in trained(model).items():
        torch.testing.assert_close(
            value - before[name], eta * (trained(twin)[name] - before[name]), rtol=1e-9, atol=1e-14
        )


def test_an_optimizer_that_writes_into_gradients_leaves_those_of_the_model() -> None:
    """SGD with Nesterov's momentum does where it works on lists of tensors, as it does on GPUs by default."""
    model, loss, L = problem("logistic", bias=True)
    nesterov = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, foreach=True)
    optimizer = lorate.create_optimizer(model, "majorizer", smoothness=L, direction=nesterov)
    closure = closure_of(model, optimizer, loss)
    for _ in range(5):
        before = closure().item()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        optimizer.step()
        kept = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.equal(now, then) for now, then in zip(kept, gradients, strict=True))
        assert optimizer.last.skipped is None
        assert before - loss(model).item() >= optimizer.last.guarantee - 1e-13


class Uphill(torch.optim.Optimizer):
    """Adds the gradient: never a direction of descent."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad)


@pytest.mark.parametrize("rule", ["majorizer", "backtracking"])
def test_an_ascending_direction_is_not_followed(rule: str) -> None:
    model, loss, L = problem("logistic", bias=True)
    options = {"smoothness": L} if rule == "majorizer" else {}
    optimizer = lorate.create_optimizer(model, rule, direction=Uphill, **options)
    before = trained(model)
    for number in (1, 2):
        optimizer.step(closure_of(model, optimizer, loss))
        assert optimizer.last.skipped.startswith("the direction does not descend: its slope ⟨g, D⟩ = ")
        assert optimizer.param_groups[0]["skipped"] == number
        assert optimizer.last.eta == 0 and optimizer.last.standing == 3
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())


def test_a_single_layer_that_would_ascend_stands_still() -> None:
    model, loss, L = problem("logistic")

    class LeftUphill(Uphill):
        @torch.no_grad()
        def step(self) -> None:
            for i, p in enumerate(self.param_groups[0]["params"]):
                p.add_(p.grad if i < 2 else -p.grad)

    optimizer = lorate.create_optimizer(model, "majorizer", smoothness=L, direction=LeftUphill)
    before = trained(model)
    optimizer.step(closure_of(model, optimizer, loss))
    assert optimizer.last.standing == 1 and optimizer.last.skipped is None
    moved = {name.split(".")[2] for name, value in trained(model).items() if not torch.equal(value, before[name])}
    assert moved == {"right"}


def test_a_stationary_point_is_left_alone() -> None:
    model, loss, L = problem("logistic")
    with torch.no_grad():
        for pair in find_pairs(model):
            pair.A.zero_()
            pair.B.zero_()
    optimizer = lorate.create_optimizer(model, "majorizer", smoothness=L)
    optimizer.step(closure_of(model, optimizer, loss))
    assert "does not descend" in optimizer.last.skipped
    assert all(not value.any() for value in trained(model).values())


@pytest.mark.parametrize("rule", ["auto", "majorizer"])
def test_an_optimizer_of_the_model_itself_is_no_direction(rule: str) -> None:
    """It would move the parameters behind the rule's back, and leave it no direction."""
    model, _, L = problem("logistic")
    with pytest.raises(LorateError, match="from the list of tensors that it is given"):
        lorate.create_optimizer(
            model,
            rule,
            smoothness=L if rule == "majorizer" else None,
            direction=lambda _: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]),
        )


def test_state_of_another_direction_is_refused() -> None:
    model, _, L = problem("logistic")
    plain = lorate.create_optimizer(model, "majorizer", smoothness=L)
    adamw = lorate.create_optimizer(model, "majorizer", smoothness=L, direction=torch.optim.AdamW)
    for own, other in ((plain, adamw), (adamw, plain)):
        with pytest.raises(LorateError, match="saved with the direction of"):
            own.load_state_dict(other.state_dict())
