"""Faults in a plain loop: the step is skipped and named, and all that follows is as if its batch had been left out."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import lorate
from lorate.optim import LoraOptimizer
from lorate.optim.layout import slots
from peft_models import linear_model

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("auto", {}),
    "adaptive-loss": ("adaptive-loss", {}),
    "adaptive, sketch": ("adaptive", {"gradient_norm": "sketch"}),
    "adaptive, exact": ("adaptive", {"gradient_norm": "exact"}),
    "normalized": ("normalized", {"lr": 0.1}),
    "majorizer": ("majorizer", {"smoothness": 2.0}),
    "majorizer, AdamW": ("majorizer", {"smoothness": 2.0, "direction": torch.optim.AdamW}),
    "constant": ("constant", {"lr": 0.05}),
    "theory": ("theory", {"smoothness": 2.0}),
    "sharp": ("sharp", {"smoothness": 2.0}),
    "one-factor": ("one-factor", {"smoothness": 2.0}),
    "backtracking": ("backtracking", {}),
}
GRADIENT = "the gradient of base_model.model.0 is not finite (1 of 2 layers)"
FAULTS = {
    "NaN in the input": "the loss is nan",
    "inf in the input": "the loss is nan",
    "inf as loss": "the loss is inf",
    "all labels -100": "the loss is nan",
    "NaN in a frozen weight": "the loss is nan",
    "NaN in a gradient": GRADIENT,
    "inf in a gradient": GRADIENT,
    "1e25 in a gradient": "the gradient of base_model.model.0 is 1e+25 long, and its square overflows float32",
    "label out of range": None,  # the model's own error
}
BAD, STEPS = 4, 9


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(12, 6, generator=generator), torch.randint(6, (12,), generator=generator)) for _ in range(STEPS)
    ]


def train(rule: str, fault: str | None) -> tuple[nn.Module, LoraOptimizer, list[Any]]:
    """Steps of a plain loop, batch ``BAD`` spoiled, or left out without a fault; why each step was skipped."""
    model = linear_model(torch.float32)
    name, options = RULES[rule]
    optimizer = lorate.create_optimizer(model, name, **options)
    frozen = model.base_model.model[0].base_layer.weight
    factor = next(p for p in model.parameters() if p.requires_grad)
    skipped = []
    for number, (x, y) in enumerate(batches()):
        if number == BAD and fault is None:
            continue
        now = fault if number == BAD else None
        if now in ("NaN in the input", "inf in the input"):
            x[0, 0] = math.nan if "NaN" in now else math.inf
        if now == "all labels -100":
            y[:] = -100
        if now == "label out of range":
            y[3] = 77
        kept = frozen.detach().clone()
        if now == "NaN in a frozen weight":
            frozen.data[0, 0] = math.nan

        def closure(x: Any = x, y: Any = y, now: str | None = now) -> torch.Tensor:
            loss = nn.functional.cross_entropy(model(x), y) * (math.inf if now == "inf as loss" else 1.0)
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
                if now is not None and "gradient" in now:
                    factor.grad[0, 0] = float(now.split()[0])  # type: ignore[index]
            return loss

        before = [parameter.detach().clone() for parameter in model.parameters()]
        if now == "label out of range":
            with pytest.raises(IndexError, match="77 is out of bounds"):
                optimizer.step(closure)
        else:
            optimizer.step(closure)
            assert optimizer.last is not None
            skipped.append(optimizer.last.skipped)
        if now is not None:
            assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True) if not b.isnan().any())
        frozen.data.copy_(kept)
    return model, optimizer, skipped


def state_tensors(optimizer: LoraOptimizer) -> list[torch.Tensor]:
    """What the optimizer whose direction is taken keeps."""
    direction = optimizer.direction
    states = [] if direction is None else direction.state_dict(slots(optimizer.param_groups))["state"].values()
    return [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]


@pytest.mark.fault("bad batch in a plain loop")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_faulty_step_is_as_if_its_batch_had_been_left_out(rule: str, fault: str) -> None:
    expected, reference, none_skipped = train(rule, None)
    model, optimizer, skipped = train(rule, fault)
    assert none_skipped == [None] * (STEPS - 1)
    if FAULTS[fault] is not None:
        assert skipped.pop(BAD) == FAULTS[fault]
        assert optimizer.param_groups[0]["skipped"] == 1
    assert skipped == none_skipped
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert a.equal(b) and a.isfinite().all()
    kept, theirs = state_tensors(optimizer), state_tensors(reference)
    assert (len(kept) > 0) == (rule in ("auto", "majorizer, AdamW"))
    assert all(a.equal(b) and a.isfinite().all() for a, b in zip(kept, theirs, strict=True))


@pytest.mark.fault("float16 overflow")
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "backtracking"])
def test_an_overflow_of_the_loss_scale_is_as_if_its_batch_had_been_left_out(rule: str) -> None:
    """The scale is far too large in one step: the gradient overflows though the loss is finite."""
    found = []
    for fault in (False, True):
        model = linear_model(torch.float32)
        name, options = RULES[rule]
        optimizer = lorate.create_optimizer(model, name, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for number, (x, y) in enumerate(batches()):
            if number == BAD and not fault:
                continue
            if number == BAD:
                scaler.update(2.0**127)
            loss = 100 * nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            optimizer.replay = lambda model=model, x=x, y=y: 100 * nn.functional.cross_entropy(model(x), y)
            scaler.step(optimizer, loss=loss)
            assert optimizer.last is not None
            assert (optimizer.last.skipped is not None) == (fault and number == BAD)
            scaler.update(1024.0)
        found.append([parameter.detach() for parameter in model.parameters()])
        assert all(value.isfinite().all() for value in state_tensors(optimizer))
    assert all(a.equal(b) and a.isfinite().all() for a, b in zip(*found, strict=True))
