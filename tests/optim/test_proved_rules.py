"""Rules with a proof: what they promise is kept, and who promises more."""

import copy
import functools
import math
import pickle

import pytest
import torch

import lorate
from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.rules import Majorizer, Sharp
from optim.known_problems import closure_of, problem, trained
from peft_models import linear_model, mixed_model

KINDS = ["logistic", "squares"]
GIVEN_L = [
    ("theory", None),
    ("sharp", None),
    ("sharp", Sharp),
    ("one-factor", None),
    ("majorizer", None),
    ("majorizer", Majorizer),
]


def rule(name: str, whole: type | None, L: float) -> dict:
    """``whole`` stands for one step size for all layers."""
    return {"rule": name, "smoothness": L} if whole is None else {"rule": whole(L, per_layer=False)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("name", "whole"), GIVEN_L)
def test_every_step_descends_by_what_is_proved(name: str, whole: type | None, kind: str, bias: bool) -> None:
    for seed, (alpha, lr) in enumerate([(0.3, 1.0), (30.0, 0.3)]):
        model, loss, L = problem(kind, seed=seed, bias=bias, alpha=alpha)
        optimizer = lorate.create_optimizer(model, **rule(name, whole, L), lr=lr)
        closure = closure_of(model, optimizer, loss)
        for _ in range(25):
            before = optimizer.step(closure).item()
            after = loss(model).item()
            assert optimizer.last.guarantee > 0
            assert before - after >= optimizer.last.guarantee - 1e-13


def promises(kind: str, seed: int, alpha: float) -> dict[str, float]:
    found = {}
    for name, whole in GIVEN_L:
        model, loss, L = problem(kind, seed=seed, alpha=alpha)
        optimizer = lorate.create_optimizer(model, **rule(name, whole, L))
        optimizer.step(closure_of(model, optimizer, loss))
        found[name + (" whole" if whole else "")] = optimizer.last.guarantee
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0.03, 3.0, 300.0])
def test_order_of_the_guarantees(kind: str, alpha: float) -> None:
    for seed in range(3):
        p = promises(kind, seed, alpha)
        assert p["majorizer"] >= p["sharp"] >= p["sharp whole"]
        assert p["majorizer whole"] >= max(p["sharp whole"], p["theory"])
        assert p["majorizer"] >= p["majorizer whole"]
        assert p["one-factor"] >= p["sharp"]


NEW = [
    ("sharp", lambda L: {"rule": "sharp", "smoothness": L}),
    ("sharp whole", lambda L: {"rule": Sharp(L, per_layer=False)}),
    ("one-factor", lambda L: {"rule": "one-factor", "smoothness": L}),
    ("majorizer", lambda L: {"rule": "majorizer", "smoothness": L}),
    ("majorizer whole", lambda L: {"rule": Majorizer(L, per_layer=False)}),
    ("majorizer adamw", lambda L: {"rule": "majorizer", "smoothness": L, "direction": adamw}),
    ("backtracking", lambda L: {"rule": "backtracking"}),
]
adamw = functools.partial(torch.optim.AdamW, lr=1e-2, eps=0.0, weight_decay=0.0)


@pytest.mark.parametrize(("name", "options"), NEW)
@pytest.mark.parametrize("c", [1 / 64, 300.0])
def test_trajectory_does_not_depend_on_how_s_is_split(name: str, options, c: float) -> None:
    models = [problem("logistic", alpha=alpha) for alpha in (3.0, 3.0 * c)]
    with torch.no_grad():
        for p, q in zip(models[0][0].parameters(), models[1][0].parameters(), strict=True):
            q.copy_(p / math.sqrt(c) if p.requires_grad else p)
    optimizers = [lorate.create_optimizer(model, **options(L)) for model, _, L in models]
    closures = [closure_of(m, o, loss) for (m, loss, _), o in zip(models, optimizers, strict=True)]
    for _ in range(50):
        for optimizer, closure in zip(optimizers, closures, strict=True):
            optimizer.step(closure)
        for pair, other in zip(find_pairs(models[0][0]), find_pairs(models[1][0]), strict=True):
            W, V = pair.scaling * pair.B @ pair.A, other.scaling * other.B @ other.A
            torch.testing.assert_close(W, V, rtol=1e-10, atol=1e-10)
    # another optimizer's direction has a unit of its own, in which its steps are counted
    if name != "majorizer adamw":
        assert optimizers[0].last.sum_eta == pytest.approx(optimizers[1].last.sum_eta, rel=1e-9)


@pytest.mark.parametrize(("name", "options"), NEW)
def test_state_dict_resumes_with_the_same_numbers(name: str, options, tmp_path) -> None:
    model, loss, L = problem("logistic")
    optimizer = lorate.create_optimizer(model, **options(L))
    closure = closure_of(model, optimizer, loss)
    for _ in range(4):
        optimizer.step(closure)
    twin = copy.deepcopy(model)
    resumed = lorate.create_optimizer(twin, **options(L))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    again = closure_of(twin, resumed, loss)
    for _ in range(4):
        assert optimizer.step(closure).item() == resumed.step(again).item()
    assert resumed.last.sum_eta == optimizer.last.sum_eta and resumed.last.number == 8
    assert all(torch.equal(value, trained(twin)[name]) for name, value in trained(model).items())


@pytest.mark.parametrize("rule", ["one-factor", "backtracking"])
def test_pickled_optimizer_goes_on(rule: str) -> None:
    model, loss, L = problem("logistic")
    direction = {"direction": torch.optim.AdamW} if rule == "backtracking" else {"smoothness": L}
    optimizer = lorate.create_optimizer(model, rule, **direction)
    optimizer.step(closure_of(model, optimizer, loss))
    twin, again = pickle.loads(pickle.dumps((model, optimizer)))
    for _ in range(3):
        optimizer.step(closure_of(model, optimizer, loss))
        again.step(closure_of(twin, again, loss))
    assert all(torch.equal(value, trained(twin)[name]) for name, value in trained(model).items())


@pytest.mark.parametrize(("name", "options"), NEW)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_adapters_descend(name: str, options, dtype: torch.dtype) -> None:
    model, loss, L = problem("squares", dtype=dtype)
    optimizer = lorate.create_optimizer(model, **options(L))
    closure = closure_of(model, optimizer, loss)
    losses = [optimizer.step(closure).item() for _ in range(12)]
    assert losses[-1] < losses[0]
    assert all(p.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize(("name", "options"), NEW)
def test_every_kind_of_layer_and_a_head(name: str, options) -> None:
    """Embedding, grouped convolution, linear, and a head that is trained whole."""
    model = mixed_model(modules_to_save=["head"])
    tokens = torch.randint(0, 11, (7, 8))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    optimizer = lorate.create_optimizer(model, **options(50.0))
    before = trained(model)
    closure = closure_of(model, optimizer, lambda m: m(tokens).square().mean())
    losses = [optimizer.step(closure).item() for _ in range(10)]
    assert losses[-1] < losses[0]
    assert not torch.equal(
        before["base_model.model.head.modules_to_save.default.weight"],
        model.base_model.model.head.modules_to_save["default"].weight,
    )


@pytest.mark.parametrize(("name", "options"), NEW)
def test_a_poisoned_step_is_skipped(name: str, options) -> None:
    model, loss, L = problem("logistic")
    optimizer = lorate.create_optimizer(model, **options(L))
    closure = closure_of(model, optimizer, loss)
    optimizer.step(closure)
    before, state = trained(model), copy.deepcopy(optimizer.state_dict().get("direction"))

    def poisoned() -> torch.Tensor:
        value = closure()
        find_pairs(model)[1].B.grad[0, 0] = math.nan
        return value

    optimizer.step(poisoned)
    assert optimizer.last.skipped == "the gradient of base_model.model.right is not finite (1 of 2 layers)"
    assert optimizer.last.guarantee is None and optimizer.last.eta == 0
    assert optimizer.param_groups[0]["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())
    if state is not None:
        moments = optimizer.state_dict()["direction"]["state"]
        assert all(torch.equal(moments[i]["exp_avg"], state["state"][i]["exp_avg"]) for i in moments)
    optimizer.step(closure)
    assert optimizer.last.skipped is None and optimizer.last.eta > 0


@pytest.mark.parametrize("rule", ["sharp", "one-factor", "majorizer"])
def test_accumulation_equals_the_whole_batch(rule: str) -> None:
    x = torch.randn(12, 6, dtype=torch.float64)
    models = [linear_model(), linear_model()]
    whole, pieces = (lorate.create_optimizer(model, rule, smoothness=1.0) for model in models)
    for _ in range(3):
        for optimizer in (whole, pieces):
            optimizer.zero_grad()
        models[0](x).square().mean().backward()
        for part in x.split(3):
            (models[1](part).square().mean() / 4).backward()
        whole.step()
        pieces.step()
    assert pieces.last.sum_eta == pytest.approx(whole.last.sum_eta, rel=1e-9)
    for name, value in trained(models[0]).items():
        torch.testing.assert_close(value, trained(models[1])[name], rtol=1e-9, atol=1e-12)


def test_one_factor_moves_one_factor_of_each_layer() -> None:
    model, loss, L = problem("squares")
    optimizer = lorate.create_optimizer(model, "one-factor", smoothness=L)
    before = trained(model)
    optimizer.step(closure_of(model, optimizer, loss))
    moved = {name for name, value in trained(model).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[2] for name in moved} == {"left", "right"} and len(moved) == 2


def test_groups_with_their_own_multiplier_share_one_majorizer() -> None:
    """lr 4 for B stretches the direction; the step along it is still the proved one."""
    model, loss, L = problem("logistic")
    B = [pair.B for pair in find_pairs(model)]
    optimizer = lorate.create_optimizer(model, Majorizer(L, per_layer=False), groups=[{"params": B, "lr": 4.0}], lr=1.0)
    closure = closure_of(model, optimizer, loss)
    before = trained(model)
    start = optimizer.step(closure).item()
    eta = optimizer.last.eta
    assert start - loss(model).item() >= optimizer.last.guarantee > 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = before[name] - (4.0 if "lora_B" in name else 1.0) * eta * parameter.grad
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=1e-15)


def test_nothing_is_claimed_without_its_assumption() -> None:
    model, loss, L = problem("logistic")
    for options in ({"gradient_norm": "sketch"}, {"lr": 1.5}):
        for rule in ("sharp", "majorizer"):
            optimizer = lorate.create_optimizer(model, rule, smoothness=L, **options)
            optimizer.step(closure_of(model, optimizer, loss))
            assert optimizer.last.guarantee is None and optimizer.last.eta > 0
            optimizer.weight_gradient.remove()
    with_dropout = linear_model(lora_dropout=0.5)
    optimizer = lorate.create_optimizer(with_dropout, "one-factor", smoothness=1.0)
    optimizer.step(closure_of(with_dropout, optimizer, lambda m: m(torch.ones(3, 6).double()).square().sum()))
    assert optimizer.last.guarantee is None


def test_adaptive_sketches_unless_told_otherwise() -> None:
    methods = {}
    for rule, options in (
        ("adaptive", {}),
        ("adaptive", {"gradient_norm": "exact"}),
        ("theory", {"smoothness": 1.0}),
        ("sharp", {"smoothness": 1.0}),
        ("majorizer", {"smoothness": 1.0}),
    ):
        optimizer = lorate.create_optimizer(linear_model(), rule, **options)
        methods[rule, *options] = optimizer.weight_gradient.method
    assert methods.pop(("adaptive",)) == "sketch"
    assert set(methods.values()) == {"exact"}


@pytest.mark.parametrize("rule", ["sharp", "one-factor", "majorizer", "backtracking"])
def test_dora_is_refused(rule: str) -> None:
    options = {} if rule == "backtracking" else {"smoothness": 1.0}
    with pytest.raises(LorateError, match="does not hold for DoRA layers"):
        lorate.create_optimizer(linear_model(use_dora=True), rule, **options)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        *[(rule, {}, f"rule '{rule}' needs the smoothness L") for rule in ("sharp", "one-factor", "majorizer")],
        *[("majorizer", {"smoothness": L}, "positive finite number") for L in (0.0, -1.0, math.nan, math.inf, "1")],
        ("backtracking", {"smoothness": math.nan}, "positive finite number"),
        ("sharp", {"smoothness": 1.0, "direction": torch.optim.AdamW}, "is for plain gradients"),
        ("one-factor", {"smoothness": 1.0, "gradient_norm": "exact"}, "does not measure the frozen"),
        ("sharp", {"smoothness": 1.0, "gradient_norm": "guess"}, "got 'guess'"),
        (Sharp(1.0), {"smoothness": 1.0}, "leave one of the two out"),
        ("majorizer", {"smoothness": 1.0, "direction": "adamw"}, "must build a torch optimizer"),
        ("majorizer", {"smoothness": 1.0, "direction": torch.optim.LBFGS}, "closure of its own"),
    ],
)
def test_bad_requests(rule, options: dict, message: str) -> None:
    model = linear_model()
    before = trained(model)
    with pytest.raises(LorateError, match=message):
        lorate.create_optimizer(model, rule, **options)
    assert all(torch.equal(value, before[name]) for name, value in trained(model).items())
    assert not any(module._forward_hooks for module in model.modules())


def test_sketch_of_an_unknown_layer() -> None:
    table = torch.nn.Sequential(torch.nn.Embedding(5, 3, scale_grad_by_freq=True))
    import peft

    model = peft.get_peft_model(table, peft.LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(LorateError, match="scale_grad_by_freq"):
        lorate.create_optimizer(model, "adaptive", gradient_norm="sketch")
    assert not any(module._forward_hooks for module in model.modules())
