"""The optimizer: the update it promises, on every kind of layer, and nothing else."""

import copy
import itertools
import math
import pickle

import numpy as np
import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.adapters import find_pairs
from lorate.errors import LorateError
from peft_models import linear_model, mixed_model

RULES = [
    ("constant", {"lr": 0.05}),
    ("theory", {"smoothness": 2.0}),
    ("adaptive", {}),
    ("adaptive-loss", {}),
    ("normalized", {"lr": 0.1}),
]
X = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def square_loss(model: nn.Module, x: torch.Tensor = X, y: torch.Tensor = Y) -> torch.Tensor:
    return (model(x.to(next(model.parameters()).dtype)) - y.to(next(model.parameters()).dtype)).square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = square_loss(model)
        loss.backward()
        optimizer.step(loss=loss)
        losses.append(loss.item())
    return losses


def adapters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_constant_is_sgd_bit_for_bit(dtype: torch.dtype) -> None:
    model = linear_model(dtype)
    twin = copy.deepcopy(model)
    optimizer = lorate.create_optimizer(model, rule="constant", lr=0.03)
    sgd = torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], lr=0.03)
    for _ in range(20):
        for m, o in ((model, optimizer), (twin, sgd)):
            o.zero_grad()
            square_loss(m).backward()
            o.step()
    ours, theirs = adapters(model), adapters(twin)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_update_is_the_gradient_times_the_step(rule: str, options: dict) -> None:
    model = mixed_model(modules_to_save=["head"])
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(0, 11, (7, 8))
    optimizer = lorate.create_optimizer(model, rule, **options)
    loss = model(tokens).square().mean()
    loss.backward()
    before = adapters(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer.step(loss=loss)
    eta = optimizer.last.eta
    assert eta > 0
    for name, value in adapters(model).items():
        s = 2.0 if "lora_" in name and rule != "constant" else 1.0
        torch.testing.assert_close(value, before[name] - eta / s * gradients[name], rtol=1e-12, atol=0)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [pair.layer.get_delta_weight("default") for pair in find_pairs(model)]


@pytest.mark.parametrize(("rule", "options"), [rule for rule in RULES if rule[0] != "constant"])
@pytest.mark.parametrize("c", [1 / 64, 3.0, 256.0])
def test_trajectory_does_not_depend_on_how_s_is_split(rule: str, options: dict, c: float) -> None:
    model, twin = linear_model(), linear_model(lora_alpha=6 * c)
    with torch.no_grad():
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            q.copy_(p / math.sqrt(c) if "lora_" in name else p)
    optimizers = [lorate.create_optimizer(m, rule, **options) for m in (model, twin)]
    for _ in range(50):
        for m, optimizer in zip((model, twin), optimizers, strict=True):
            train(m, optimizer, 1)
        for W, other in zip(weights(model), weights(twin), strict=True):
            torch.testing.assert_close(W, other, rtol=1e-10, atol=1e-10)
    assert optimizers[0].last.eta == pytest.approx(optimizers[1].last.eta, rel=1e-9)


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_loss_falls(rule: str, options: dict) -> None:
    model = linear_model()
    losses = train(model, lorate.create_optimizer(model, rule, **options), 30)
    assert losses[-1] < losses[0]


def test_theory_descends_as_proved() -> None:
    """One adapted layer under a square loss, whose smoothness is known."""
    model = linear_model(layers=1)
    model.base_model.model[1] = nn.Identity()
    design = torch.cat((X, torch.ones(12, 1, dtype=X.dtype)), 1)
    smoothness = 2 * float(torch.linalg.eigvalsh(design.T @ design / Y.numel())[-1])
    optimizer = lorate.create_optimizer(model, "theory", smoothness=smoothness)
    losses, promised = [], []
    for _ in range(40):
        losses += train(model, optimizer, 1)
        promised.append(optimizer.last.eta / 4 * optimizer.last.measurement.scaled_gradient_norm**2)
    falls = [a - b for a, b in itertools.pairwise(losses)]
    assert all(fall >= promise > 0 for fall, promise in zip(falls, promised, strict=False))


def test_lr_multiplies_and_schedulers_reach_it() -> None:
    plain, scheduled = linear_model(), linear_model()
    one = lorate.create_optimizer(plain, "adaptive-loss", lr=0.5)
    two = lorate.create_optimizer(scheduled, "adaptive-loss")
    scheduler = torch.optim.lr_scheduler.LambdaLR(two, lambda step: 0.5)
    train(plain, one, 1)
    train(scheduled, two, 1)
    scheduler.step()
    assert one.last.lr == two.last.lr == 0.5
    for name, value in adapters(plain).items():
        assert torch.equal(value, adapters(scheduled)[name])


def test_groups_with_their_own_multiplier() -> None:
    model = linear_model()
    pairs = find_pairs(model)
    optimizer = lorate.create_optimizer(
        model, "adaptive-loss", groups=[{"params": [pair.B for pair in pairs], "lr": 4.0}]
    )
    before = adapters(model)
    train(model, optimizer, 1)
    eta = optimizer.last.eta
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = (4.0 if "lora_B" in name else 1.0) * eta / 2.0
            torch.testing.assert_close(before[name] - factor * parameter.grad, parameter.detach(), rtol=1e-12, atol=0)


def test_groups_must_be_trained_once() -> None:
    model = linear_model()
    parameter = find_pairs(model)[0].A
    with pytest.raises(LorateError, match="is in another group too"):
        lorate.create_optimizer(model, groups=[{"params": [parameter]}, {"params": [parameter]}])
    with pytest.raises(LorateError, match="lr must be a finite number >= 0"):
        lorate.create_optimizer(model, groups=[{"params": [parameter], "lr": -1.0}])


def test_a_group_may_hold_a_single_tensor_as_in_torch() -> None:
    model = linear_model()
    parameter = find_pairs(model)[0].B
    optimizer = lorate.create_optimizer(model, "normalized", groups=[{"params": parameter, "lr": 4.0}])
    assert optimizer.param_groups[1]["params"] == [parameter] and optimizer.param_groups[1]["lr"] == 4.0


def test_a_group_that_comes_later_is_refused_and_changes_nothing() -> None:
    optimizer = lorate.create_optimizer(linear_model(), "normalized")
    with pytest.raises(LorateError, match=r"create_optimizer\(model, groups=\[...\]\)"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_damping_that_is_none_is_refused_and_changes_nothing(factor: float) -> None:
    optimizer = lorate.create_optimizer(linear_model(), "normalized")
    with pytest.raises(LorateError, match="finite number >= 0, got"):
        optimizer.dampen(factor)
    assert optimizer.param_groups[0]["damping"] == 1.0


def test_losses_that_were_not_averaged_are_refused() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive-loss")
    square_loss(model).backward()
    before = adapters(model)
    for losses in (torch.rand(12), np.ones(12), []):
        with pytest.raises(LorateError, match=r"one number, got a tensor of shape \((12|0),\)"):
            optimizer.step(loss=losses)
    assert all(torch.equal(value, before[name]) for name, value in adapters(model).items())
    square_loss(model).backward()
    optimizer.step(loss=torch.tensor([4.0]))
    assert optimizer.last.measurement.loss == 4.0


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_accumulation_equals_the_whole_batch(rule: str, options: dict) -> None:
    model, twin = linear_model(), linear_model()
    whole = lorate.create_optimizer(model, rule, **options)
    pieces = lorate.create_optimizer(twin, rule, **options)
    for _ in range(5):
        train(model, whole, 1)
        pieces.zero_grad()
        for x, y in zip(X.split(3), Y.split(3), strict=True):
            loss = square_loss(twin, x, y) / 4
            loss.backward()
            pieces.record_loss(loss)
        pieces.step()
    assert pieces.last.measurement.loss == pytest.approx(whole.last.measurement.loss, rel=1e-6)
    for name, value in adapters(model).items():
        torch.testing.assert_close(value, adapters(twin)[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("rule", "options"), RULES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_adapters(rule: str, options: dict, dtype: torch.dtype) -> None:
    model = linear_model(dtype)
    reference = linear_model(torch.float32)
    reference.load_state_dict(model.state_dict())
    losses = train(model, lorate.create_optimizer(model, rule, **options), 5)
    expected = train(reference, lorate.create_optimizer(reference, rule, **options), 5)
    assert losses == pytest.approx(expected, rel=0.03)
    assert {p.dtype for p in model.parameters()} == {dtype}


@pytest.mark.parametrize(("rule", "options"), RULES)
def test_state_dict_resumes_with_the_same_numbers(rule: str, options: dict) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, rule, **options)
    train(model, optimizer, 3)
    optimizer.dampen(0.5)
    twin = copy.deepcopy(model)
    resumed = lorate.create_optimizer(twin, rule, **{**options, "lr": 123.0})
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 3)
    train(twin, resumed, 3)
    assert resumed.last.sum_eta == optimizer.last.sum_eta
    assert resumed.last.number == 6
    for name, value in adapters(model).items():
        assert torch.equal(value, adapters(twin)[name])


def test_state_of_other_adapters_is_refused() -> None:
    state = lorate.create_optimizer(linear_model(), "normalized").state_dict()
    with pytest.raises(LorateError, match="saved for other LoRA layers"):
        lorate.create_optimizer(linear_model(layers=3), "normalized").load_state_dict(state)


def test_state_dict_survives_weights_only_loading(tmp_path) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive-loss")
    train(model, optimizer, 2)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(model, optimizer, 1)
    assert optimizer.last.number == 3


def test_pickled_optimizer_goes_on() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive-loss")
    train(model, optimizer, 2)
    again_model, again = pickle.loads(pickle.dumps((model, optimizer)))
    assert train(again_model, again, 2) == train(model, optimizer, 2)


def test_pickled_optimizer_without_its_hooks_says_so() -> None:
    model = linear_model()
    model, optimizer = pickle.loads(pickle.dumps((model, lorate.create_optimizer(model, "adaptive"))))
    model(torch.ones(2, 6, dtype=torch.float64)).square().mean().backward()
    with pytest.raises(LorateError, match="hooks on the model measure"):
        optimizer.step()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile's own
@pytest.mark.parametrize(("rule", "options"), [RULES[2], RULES[3]])
def test_compiled_model(rule: str, options: dict) -> None:
    model, twin = linear_model(), linear_model()
    compiled = torch.compile(twin, backend="eager")
    expected = train(model, lorate.create_optimizer(model, rule, **options), 4)
    assert train(compiled, lorate.create_optimizer(compiled, rule, **options), 4) == pytest.approx(expected, rel=1e-9)


def test_closure() -> None:
    model, twin = linear_model(), linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive-loss")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = square_loss(model)
        loss.backward()
        return loss

    values = [optimizer.step(closure).item() for _ in range(3)]
    assert values == train(twin, lorate.create_optimizer(twin, "adaptive-loss"), 3)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_a_poisoned_step_is_skipped_and_named(poison: float, where: str) -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "adaptive-loss")
    train(model, optimizer, 1)
    before, eta = adapters(model), optimizer.last.sum_eta
    loss = square_loss(model)
    optimizer.zero_grad()
    loss.backward()
    if where == "gradient":
        find_pairs(model)[1].B.grad[0, 0] = poison
    optimizer.step(loss=loss if where == "gradient" else torch.tensor(poison))
    expected = "the gradient of base_model.model.2 is not finite (1 of 2 layers)"
    assert optimizer.last.skipped == (expected if where == "gradient" else f"the loss is {poison}")
    assert all(torch.equal(value, before[name]) for name, value in adapters(model).items())
    assert optimizer.param_groups[0]["skipped"] == 1 and optimizer.last.number == 2
    assert optimizer.last.sum_eta == eta and optimizer.last.eta == 0
    train(model, optimizer, 1)
    assert optimizer.last.skipped is None and optimizer.last.eta > 0


def test_a_step_that_would_overflow_is_skipped() -> None:
    model = linear_model(torch.float16)
    optimizer = lorate.create_optimizer(model, "constant", lr=1e8)
    before = adapters(model)
    train(model, optimizer, 1)
    assert optimizer.last.skipped == "the step would overflow float16: lower lr"
    assert all(torch.equal(value, before[name]) for name, value in adapters(model).items())


def test_poisoned_adapters_are_an_error() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized")
    loss = square_loss(model)
    loss.backward()
    with torch.no_grad():
        find_pairs(model)[0].A[0, 0] = math.nan
    with pytest.raises(LorateError, match=r"adapter weights of base_model.model.0 are not finite; load the last good"):
        optimizer.step(loss=loss)


def test_missing_gradients_count_as_zero() -> None:
    model = linear_model()
    optimizer = lorate.create_optimizer(model, "normalized")
    pairs = find_pairs(model)
    pairs[0].A.grad = torch.ones_like(pairs[0].A)
    before = adapters(model)
    optimizer.step()
    moved = [name for name, value in adapters(model).items() if not torch.equal(value, before[name])]
    assert moved == ["base_model.model.0.lora_A.default.weight"]


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("constant", {}, r"rule 'constant' needs lr="),
        ("normalized", {"lr": math.nan}, "finite number >= 0, got nan"),
        ("normalized", {"lr": -0.1}, "got -0.1"),
        ("normalized", {"lr": "fast"}, "got 'fast'"),
    ],
)
def test_bad_constants(rule: str, options: dict, message: str) -> None:
    with pytest.raises(LorateError, match=message):
        lorate.create_optimizer(linear_model(), rule, **options)


def test_dora_is_refused_where_the_theory_does_not_hold() -> None:
    model = linear_model(use_dora=True)
    with pytest.raises(LorateError, match=r"does not hold for DoRA layers \(base_model.model.0 and 1 more\)"):
        lorate.create_optimizer(model, "adaptive")
    losses = train(model, lorate.create_optimizer(model, "adaptive-loss"), 20)
    assert losses[-1] < losses[0]


def test_frozen_base_stays_as_it_was() -> None:
    model = linear_model()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    train(model, lorate.create_optimizer(model, "adaptive"), 3)
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in frozen.items())


def test_saved_adapter_loads_in_plain_peft(tmp_path) -> None:
    model = linear_model()
    train(model, lorate.create_optimizer(model, "adaptive-loss"), 3)
    model.save_pretrained(tmp_path)
    base = nn.Sequential(*[nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()]).double()
    base.load_state_dict(model.merge_and_unload().state_dict())
    assert (tmp_path / "adapter_model.safetensors").exists()
    assert peft.PeftConfig.from_pretrained(tmp_path).peft_type == "LORA"
