"""The optimizer's state through every door that checkpoints use."""

import copy
import io
from pathlib import Path

import peft
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

import lorate
from lorate.errors import LorateError
from lorate.rules import RULES
from optim.every_rule import options
from optim.test_every_rule import Task
from peft_models import linear_model

ALL = list(RULES)
WHITENING = {f"direction.{name}" for name in ("gram", "basis", "squares", "weight")}


def through_torch(task: Task, other: Task, path: Path) -> None:
    torch.save(task.optimizer.state_dict(), path / "state.pt")
    other.optimizer.load_state_dict(torch.load(path / "state.pt", weights_only=True))


def through_memory(task: Task, other: Task, path: Path) -> None:
    other.optimizer.load_state_dict(copy.deepcopy(task.optimizer.state_dict()))


def through_distributed(task: Task, other: Task, path: Path) -> None:
    state = get_optimizer_state_dict(task.model, task.optimizer)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    set_optimizer_state_dict(other.model, other.optimizer, torch.load(buffer, weights_only=True))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("door", [through_torch, through_memory, through_distributed])
@pytest.mark.parametrize("averaged", [False, True], ids=["last", "averaged"])
def test_training_goes_on_with_the_same_numbers(name: str, door, averaged: bool, tmp_path: Path) -> None:
    whole, half, rest = Task(name), Task(name), Task(name, lr=0.7)
    whole.train(14)
    half.train(7)
    half.optimizer.dampen(0.5)
    half.optimizer.dampen(2.0)
    if averaged:
        half.optimizer.use_average()
    rest.model.load_state_dict(half.model.state_dict())
    door(half, rest, tmp_path)
    rest.optimizer.use_last()
    rest.train(7)
    assert torch.equal(rest.adapters(), whole.adapters())
    assert rest.optimizer.last.sum_eta == whole.optimizer.last.sum_eta
    assert rest.optimizer.last.number == 14
    with rest.optimizer.averaged(), whole.optimizer.averaged():
        assert torch.equal(rest.adapters(), whole.adapters())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("cleared", [True, False])
def test_a_distributed_checkpoint_changes_nothing(name: str, steps: int, cleared: bool) -> None:
    task, twin = Task(name), Task(name)
    for one in (task, twin):
        one.train(steps)
    if cleared:
        task.optimizer.zero_grad()
    elif not steps:
        return  # no gradient yet
    last = task.optimizer.last
    get_optimizer_state_dict(task.model, task.optimizer)
    assert task.optimizer.last is last
    assert task.optimizer.param_groups[0]["steps"] == steps
    assert torch.equal(task.adapters(), twin.adapters())
    task.train(3)
    twin.train(3)
    assert torch.equal(task.adapters(), twin.adapters())


def test_the_state_is_tensors_by_parameter_and_numbers_in_the_groups() -> None:
    task = Task("auto")
    task.train(4)
    state = task.optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    for values in state["state"].values():
        assert {"average", "move", "z_sensitivity", "x_sensitivity", *WHITENING} == set(values)
        assert all(isinstance(value, torch.Tensor) for value in values.values())
    assert state["param_groups"][0]["lorate"]["format"] == 2


def test_the_average_of_16_bit_adapters_keeps_its_precision() -> None:
    task, other = Task("auto", torch.bfloat16), Task("auto", torch.bfloat16)
    task.train(4)
    other.optimizer.load_state_dict(task.optimizer.state_dict())
    for values in other.optimizer.state_dict()["state"].values():
        assert values["average"].dtype == torch.float32


def ranked(rank: int) -> nn.Module:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=rank, target_modules=["0"])
    return peft.get_peft_model(nn.Sequential(nn.Linear(4, 3)), config)


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (
            {"rule": "adaptive-loss"},
            {"rule": "normalized"},
            "saved under rule 'adaptive-loss', .* has rule 'normalized'",
        ),
        ({"rank": 4}, {"rank": 2}, r"saved for a parameter of shape \[4, 4\], which has shape \[2, 4\] here"),
        (
            {"direction": torch.optim.AdamW},
            {"direction": torch.optim.SGD},
            "saved with the direction of AdamW, but this one takes that of SGD",
        ),
        (
            {"rule": "backtracking", "direction": torch.optim.SGD},
            {"rule": "backtracking"},
            "takes that of the gradient",
        ),
    ],
)
def test_a_state_of_something_else_is_refused_in_one_sentence(saved: dict, loaded: dict, message: str) -> None:
    def build(rank: int = 2, **given) -> lorate.LoraOptimizer:
        return lorate.create_optimizer(ranked(rank), **given)

    one, other = build(**saved), build(**loaded)
    before = other.state_dict()
    with pytest.raises(LorateError, match=message):
        other.load_state_dict(one.state_dict())
    assert str(other.state_dict()) == str(before)


@pytest.mark.parametrize("spoil", [{"format": 99}, None, 3])
def test_a_state_of_another_format_is_refused(spoil: object) -> None:
    optimizer = lorate.create_optimizer(ranked(2), "normalized")
    state = optimizer.state_dict()
    state["param_groups"][0]["lorate"] = spoil
    with pytest.raises(LorateError, match="reads format 2"):
        optimizer.load_state_dict(state)


def test_a_state_of_another_optimizer_is_refused() -> None:
    model = linear_model()
    adamw = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with pytest.raises(LorateError, match="saved by another optimizer"):
        lorate.create_optimizer(model, **options("normalized")).load_state_dict(adamw.state_dict())


def test_the_average_follows_the_model_into_float64() -> None:
    task = Task("auto", torch.float32)
    task.train(4)
    task.model.double()
    task.x, task.y = task.x.double(), task.y.double()
    task.optimizer.zero_grad()
    task.train(3)
    with task.optimizer.averaged():
        assert all(p.dtype == torch.float64 for p in task.model.parameters())
    assert task.optimizer.state_dict()["state"][0]["average"].dtype == torch.float64
