"""A loaded state beside adapters that it was not saved with."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import lorate
from optim.test_own_loop import adapters, train
from peft_models import linear_model

Checkpoint = tuple[dict[str, Any], dict[str, Any]]


def checkpoint(*, model_averaged: bool, state_averaged: bool) -> Checkpoint:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 20)
    optimizer._show(average=model_averaged)
    weights = copy.deepcopy(model.state_dict())
    optimizer._show(average=state_averaged)
    return weights, copy.deepcopy(optimizer.state_dict())


def resumed(saved: Checkpoint) -> tuple[nn.Module, lorate.LoraOptimizer]:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    optimizer.load_state_dict(saved[1])
    model.load_state_dict(saved[0])  # after the optimizer's, as some loops do
    return model, optimizer


@pytest.mark.parametrize("averaged", [False, True])
def test_adapters_of_another_moment_are_warned_of_once(averaged: bool) -> None:
    model, optimizer = resumed(checkpoint(model_averaged=not averaged, state_averaged=averaged))
    with pytest.warns(UserWarning, match="both inside optimizer.averaged.. or both outside"):
        optimizer._show(average=not averaged) if averaged else train(model, optimizer, 1)
    train(model, optimizer, 3)


def test_a_model_that_was_not_loaded_is_warned_of() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    optimizer.load_state_dict(checkpoint(model_averaged=False, state_averaged=False)[1])
    optimizer.load_state_dict(optimizer.state_dict())  # saving and loading once more does not hide it
    with pytest.warns(UserWarning, match=r"are not those that the loaded optimizer state was saved with"):
        optimizer.finish()


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_right_adapters_pass_in_another_dtype_too(averaged: bool, dtype: torch.dtype) -> None:
    model, optimizer = resumed(checkpoint(model_averaged=averaged, state_averaged=averaged))
    model.to(dtype)
    optimizer.use_last()
    optimizer.finish()
    assert optimizer.is_averaged


def test_a_state_of_an_earlier_lorate_without_a_mark_loads() -> None:
    weights, state = checkpoint(model_averaged=False, state_averaged=False)
    for group in state["param_groups"]:
        group["lorate"].pop("mark")
    model, optimizer = resumed((weights, state))
    train(model, optimizer, 1)
    assert adapters(model).isfinite().all()


def test_another_lora_alpha_is_warned_of() -> None:
    weights, state = checkpoint(model_averaged=False, state_averaged=False)
    model = linear_model(lora_alpha=800)
    optimizer = lorate.create_optimizer(model)
    optimizer.load_state_dict(state)
    model.load_state_dict(weights)
    with pytest.warns(UserWarning, match=r"saved with a scaling of .*: build the adapters with the same lora_alpha"):
        train(model, optimizer, 1)
