"""Rule auto in loops as people write them, with what goes wrong in them."""

import copy
import math
from collections.abc import Callable

import peft
import pytest
import torch
from torch import Tensor, nn

import lorate
from lorate.errors import LorateError
from peft_models import linear_model


def loss_of(model: nn.Module, seed: int = 0) -> Tensor:
    x, y = torch.randn(2, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (model(x) - y).square().mean()


def train(model: nn.Module, optimizer: lorate.LoraOptimizer, steps: int) -> None:
    for seed in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, seed)
        loss.backward()
        optimizer.step(loss=loss)


def adapters(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def test_an_ordinary_closure_survives_a_bad_batch_and_gradients_stay_its_own() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 10)
    before, calls = adapters(model), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model) * math.nan
        loss.backward()
        calls.append([p.grad for p in optimizer._parameters])
        return loss

    optimizer.step(closure)
    assert optimizer.last.skipped == "the loss is nan"
    assert torch.equal(adapters(model), before)
    assert all(p.grad is g for p, g in zip(optimizer._parameters, calls[0], strict=True))


def taken_back() -> tuple[nn.Module, lorate.LoraOptimizer, Tensor]:
    """A run whose tenth step led to adapters, returned last, where the loss is infinite; the eleventh undid it."""
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 10)
    cliff = adapters(model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model) * (math.inf if torch.equal(adapters(model), cliff) else 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, optimizer, cliff


def test_an_ordinary_closure_shows_that_the_step_before_it_was_to_blame() -> None:
    _, optimizer, _ = taken_back()
    assert "taken back" in optimizer.last.skipped


def test_the_average_survives_a_resume_right_after_a_step_was_taken_back() -> None:
    model, optimizer, cliff = taken_back()
    other = copy.deepcopy(model)
    resumed = lorate.create_optimizer(other)
    resumed.load_state_dict(optimizer.state_dict())
    resumed.finish()
    optimizer.finish()
    assert torch.equal(adapters(other), adapters(model)) and not torch.equal(adapters(model), cliff)


def test_a_closure_that_fails_by_itself_says_so() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 3)
    loss_of(model).backward()

    calls = []

    def replay() -> Tensor:
        calls.append(torch.is_grad_enabled())
        raise RuntimeError("out of batches")

    optimizer.replay = replay
    with pytest.raises(RuntimeError, match="out of batches"):
        optimizer.step(loss=math.nan)
    assert calls == [False]


def test_a_loss_in_the_place_of_the_closure_is_refused() -> None:
    model = linear_model()
    loss = loss_of(model)
    with pytest.raises(LorateError, match=r"got a Tensor; .*optimizer.step\(loss=loss\)"):
        lorate.create_optimizer(model).step(loss)  # type: ignore[arg-type]


def test_a_first_step_without_any_gradient_is_refused() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(copy.deepcopy(model))
    loss = loss_of(model)
    loss.backward()
    with pytest.raises(LorateError, match="no parameter of this optimizer has a gradient"):
        optimizer.step(loss=loss)
    optimizer.step(loss=math.nan)  # a loop may leave the backward pass of such a batch out
    assert optimizer.last.skipped == "the loss is nan"


def test_an_optimizer_of_adapters_that_were_replaced_is_refused() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 3)
    model.add_adapter("second", copy.copy(model.peft_config["default"]))
    model.set_adapter("second")
    with pytest.raises(LorateError, match="is frozen by now, as set_adapter"):
        train(model, optimizer, 1)


def test_a_small_lr_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="5,000 times shorter than usual"):
        lorate.create_optimizer(linear_model(), lr=2e-4)


@pytest.mark.parametrize("lr", [math.nan, math.inf, -1.0, "0.1", None, torch.ones(2)])
def test_an_lr_that_became_no_multiplier_is_refused_and_the_average_is_still_there(lr: object) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 3)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(LorateError, match=r"lr must be a finite number >= 0, and is .* by now"):
        train(model, optimizer, 1)
    optimizer.finish()


@pytest.mark.parametrize("loss", ["0.3", {"loss": torch.ones(())}])
def test_a_loss_that_is_no_number_is_refused(loss: object) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    loss_of(model).backward()
    with pytest.raises(LorateError, match=r"must be one number, got a (str|dict); of a model.s output"):
        optimizer.step(loss=loss)


def test_groups_with_learning_rates_as_for_adamw_are_warned_of() -> None:
    model = linear_model()
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": 1e-4}]
    with pytest.warns(UserWarning, match="10,000 times shorter"):
        lorate.create_optimizer(model, groups=groups)


class Bag(nn.Module):
    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6, sparse=sparse)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.table(tokens).mean(1))


@pytest.mark.parametrize("rule", ["auto", "normalized"])
def test_sparse_gradients_train_as_dense_ones(rule: str) -> None:
    ends = []
    for sparse in (False, True):
        torch.manual_seed(0)
        config = peft.LoraConfig(r=2, target_modules=["head"], modules_to_save=["table"])
        model = peft.get_peft_model(Bag(sparse=sparse), config)
        optimizer = lorate.create_optimizer(model, rule)
        tokens = torch.randint(20, (10, 8, 4), generator=torch.Generator().manual_seed(1))
        for batch in tokens:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
        ends.append(adapters(model))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


def loaded_late(steps: int) -> tuple[nn.Module, lorate.LoraOptimizer, Tensor]:
    """Adapters that were loaded when the optimizer was there already, and what they were."""
    trained, model = linear_model(), linear_model()
    train(trained, lorate.create_optimizer(trained), 20)
    optimizer = lorate.create_optimizer(model)
    model.load_state_dict(trained.state_dict())
    loaded = adapters(model)
    train(model, optimizer, steps)
    return model, optimizer, loaded


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("end", [lorate.LoraOptimizer.finish, lorate.LoraOptimizer.use_average])
def test_adapters_loaded_after_the_optimizer_was_built_are_where_the_average_begins(
    steps: int, end: Callable[[lorate.LoraOptimizer], None]
) -> None:
    model, optimizer, loaded = loaded_late(steps)
    end(optimizer)
    assert torch.equal(adapters(model), loaded)  # the average has not seen a first step yet


def test_adapters_loaded_late_train_as_if_loaded_before() -> None:
    model, optimizer, loaded = loaded_late(5)
    optimizer.finish()
    twin = linear_model()
    torch.nn.utils.vector_to_parameters(loaded, [p for p in twin.parameters() if p.requires_grad])
    other = lorate.create_optimizer(twin)
    train(twin, other, 5)
    other.finish()
    assert torch.equal(adapters(model), adapters(twin))


def test_finishing_inside_averaged_finishes() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 10)
    with optimizer.averaged():
        average = adapters(model)
        optimizer.finish()
    assert optimizer.is_averaged and torch.equal(adapters(model), average)
    assert not model._forward_pre_hooks
    optimizer.use_last()
    with optimizer.averaged():
        pass
    assert not optimizer.is_averaged


@pytest.mark.parametrize("name", ["average", "move", "z_sensitivity", "x_sensitivity"])
@pytest.mark.parametrize("reshape", [False, True])
def test_an_incomplete_state_is_refused_before_anything_is_changed(name: str, reshape: bool) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    train(model, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    kept = state["state"][1]
    if reshape:
        kept[name] = kept[name][:1]
    else:
        del kept[name]
    other = lorate.create_optimizer(linear_model())
    before = str(other.state_dict())
    with pytest.raises(LorateError, match=f"incomplete: of parameter 1.* {name} is missing"):
        other.load_state_dict(state)
    assert str(other.state_dict()) == before


@pytest.mark.parametrize("state", [None, {}, [], {"param_groups": []}])
def test_what_is_no_state_at_all_is_refused(state: object) -> None:
    with pytest.raises(LorateError, match="saved by another optimizer or version"):
        lorate.create_optimizer(linear_model()).load_state_dict(state)  # type: ignore[arg-type]


def test_a_closure_need_not_return_the_loss() -> None:
    model, twin = linear_model(), linear_model()
    optimizer, other = lorate.create_optimizer(model), lorate.create_optimizer(twin)

    def closure() -> None:
        optimizer.zero_grad()
        loss_of(model).backward()

    optimizer.step(closure)  # type: ignore[arg-type]
    train(twin, other, 1)
    assert optimizer.last.measurement.loss is None
    assert torch.equal(adapters(model), adapters(twin))


def test_averaged_adapters_can_be_evaluated_in_inference_mode() -> None:
    model, twin = linear_model(), linear_model()
    optimizer, other = lorate.create_optimizer(model), lorate.create_optimizer(twin)
    for one, its in ((model, optimizer), (twin, other)):
        train(one, its, 5)
    with torch.inference_mode(), optimizer.averaged():
        loss_of(model)
    for one, its in ((model, optimizer), (twin, other)):
        train(one, its, 5)
        its.finish()
    assert torch.equal(adapters(model), adapters(twin))


def test_parameters_in_the_place_of_the_model_are_refused() -> None:
    with pytest.raises(LorateError, match="takes the model itself, not its parameters; got a generator"):
        lorate.create_optimizer(linear_model().parameters())  # type: ignore[arg-type]
