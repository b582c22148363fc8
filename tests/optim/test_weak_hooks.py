"""Hooks keep nothing alive, and a copy or a pickle of a model holds none that does anything."""

import copy
import gc
import io
import weakref

import pytest
import torch

import lorate
from lorate.hooks import nothing
from optim.every_rule import options
from optim.test_every_rule import Task, hooks_of

HOOKED = ["adaptive", "auto"]


@pytest.mark.parametrize("name", HOOKED)
def test_an_optimizer_that_is_dropped_takes_its_hooks_along(name: str) -> None:
    task = Task(name)
    task.train(3)
    assert hooks_of(task.model) > 0
    gone = weakref.ref(task.optimizer)
    model = task.model
    del task
    gc.collect()
    assert gone() is None
    assert hooks_of(model) == 0


@pytest.mark.parametrize("name", HOOKED)
def test_a_model_with_hooks_is_saved_and_loaded(name: str) -> None:
    task = Task(name)
    task.train(2)
    buffer = io.BytesIO()
    torch.save(task.model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert torch.equal(loaded(task.x), task.model(task.x))


@pytest.mark.parametrize("name", HOOKED)
def test_a_pass_of_a_copied_model_does_not_reach_the_optimizer(name: str) -> None:
    task, twin = Task(name), Task(name)
    for one in (task, twin):
        one.train(3)
    copied = copy.deepcopy(task.model)
    hooks = [hook for m in copied.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert hooks and all(hook is nothing for hook in hooks)
    copied(task.x * 100).square().sum().backward()
    task.train(3)
    twin.train(3)
    assert torch.equal(task.adapters(), twin.adapters())


@pytest.mark.parametrize("name", HOOKED)
def test_two_optimizers_in_turn_leave_one_set_of_hooks(name: str) -> None:
    task = Task(name)
    count = hooks_of(task.model)
    task.optimizer = lorate.create_optimizer(task.model, **options(name))
    gc.collect()
    assert hooks_of(task.model) == count
