"""Training with a GradScaler: the loss scale must not be seen by any rule."""

import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import lorate
from lorate.errors import LorateError
from peft_models import linear_model

RULES = [
    ("theory", {"smoothness": 2.0}),
    ("adaptive", {"gradient_norm": "sketch"}),
    ("adaptive", {"gradient_norm": "exact"}),
    ("sharp", {"smoothness": 2.0}),
    ("sharp", {"smoothness": 2.0, "gradient_norm": "sketch"}),
    ("one-factor", {"smoothness": 2.0}),
    ("majorizer", {"smoothness": 2.0}),
    ("majorizer", {"smoothness": 2.0, "gradient_norm": "sketch", "direction": torch.optim.AdamW}),
    ("adaptive-loss", {}),
    ("normalized", {"lr": 0.1}),
    ("constant", {"lr": 0.05}),
]
X = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))


def train(rule: str, options: dict, scaler: GradScaler | None, *, parts: int = 1) -> tuple[nn.Module, list[float]]:
    """Four steps of a plain loop; step sizes in force."""
    model = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(model, rule, **options)
    sizes = []
    for _ in range(4):
        total = 0.0
        for x in X.split(len(X) // parts):
            loss = model(x).square().mean() / parts
            (loss if scaler is None else scaler.scale(loss)).backward()
            total += loss.detach()
        if scaler is None:
            optimizer.step(loss=total)
        else:
            scaler.step(optimizer, loss=total)
            scaler.update()
        optimizer.zero_grad()
        sizes.append(optimizer.last.eta)
    return model, sizes


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("rule", "options"), RULES)
def test_a_scaler_changes_nothing(rule: str, options: dict, parts: int) -> None:
    plain, expected = train(rule, options, None, parts=parts)
    model, sizes = train(rule, options, GradScaler("cpu", init_scale=3000.0, growth_interval=2), parts=parts)
    assert min(sizes) > 0
    assert sizes == pytest.approx(expected, rel=1e-4)
    for parameter, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_an_overflow_is_skipped_and_told_and_the_next_step_is_as_if_it_had_not_been(rule: str, options: dict) -> None:
    """The first scale is too large: the gradient overflows, the scaler halves its scale, and training goes on."""
    model = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(model, rule, **options)
    scaler = GradScaler("cpu", init_scale=2.0**127)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for number in (1, 2):
        loss = 1e4 * model(X).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer, loss=loss)
        assert optimizer.last.number == number
        assert "is not finite" in optimizer.last.skipped
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        scaler.update(2.0**10 if number == 2 else None)
        optimizer.zero_grad()
    assert scaler.get_scale() == 2.0**10
    loss = model(X).square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer, loss=loss)
    assert optimizer.last.skipped is None
    assert optimizer.last.eta == pytest.approx(train(rule, options, None)[1][0], rel=1e-4)


@pytest.mark.parametrize("rule", ["adaptive", "majorizer"])
def test_a_step_without_the_scaler_is_not_scaled(rule: str) -> None:
    options = {"smoothness": 2.0} if rule == "majorizer" else {}
    sizes = []
    for scaler in (None, GradScaler("cpu", init_scale=1024.0)):
        model = linear_model(torch.float32)
        optimizer = lorate.create_optimizer(model, rule, **options)
        for number in range(2):
            optimizer.zero_grad()
            loss = model(X).square().mean()
            if scaler is not None and number == 0:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
            else:
                loss.backward()
                optimizer.step()
        sizes.append(optimizer.last.eta)
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)


def test_a_scale_that_was_divided_out_before_is_not_guessed() -> None:
    model = linear_model(torch.float32)
    scaler = GradScaler("cpu")

    def backward(optimizer: torch.optim.Optimizer) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(X).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        return loss

    optimizer = lorate.create_optimizer(model, "adaptive")
    loss = backward(optimizer)
    with pytest.raises(LorateError, match=r"'adaptive' measures .* scaler.unscale_\(optimizer\) leaves scaled"):
        scaler.step(optimizer, loss=loss)
    # after the error the same optimizer steps as if nothing had been
    scaler = GradScaler("cpu")
    optimizer.zero_grad()
    loss = model(X).square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer, loss=loss)
    assert optimizer.last.eta == pytest.approx(train("adaptive", {}, None)[1][0], rel=1e-4)
    optimizer.weight_gradient.remove()

    # rules that read the gradients alone do not mind
    scaler = GradScaler("cpu")
    model = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(model, "normalized", lr=0.1)
    scaler.step(optimizer, loss=backward(optimizer))
    assert optimizer.last.eta == pytest.approx(train("normalized", {"lr": 0.1}, None)[1][0], rel=1e-5)


def test_float16_adapters_are_refused() -> None:
    model = linear_model(torch.float16)
    optimizer = lorate.create_optimizer(model, "normalized")
    scaler = GradScaler("cpu", init_scale=8.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    scaler.scale(model(X.half()).square().mean()).backward()
    with pytest.raises(LorateError, match="a GradScaler needs adapters in float32"):
        scaler.step(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_gradients_that_were_thrown_away_do_not_count(method: str) -> None:
    """A loop that leaves out a bad batch clears the gradients and goes on."""
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive", gradient_norm=method)
    twin = linear_model()
    reference = lorate.create_optimizer(twin, "adaptive", gradient_norm=method)
    (math.inf * model(X.double()).sum()).backward()
    optimizer.record_loss(torch.tensor(math.inf))
    optimizer.zero_grad()
    for current, own in ((model, optimizer), (twin, reference)):
        current(X.double()).square().mean().backward()
        own.step()
    assert optimizer.last.skipped is None and optimizer.last.measurement.loss is None
    assert optimizer.last.eta == reference.last.eta
