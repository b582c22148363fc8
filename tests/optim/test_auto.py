"""Rule auto as a torch optimizer."""

import copy
import math
import pickle
from functools import partial

import peft
import pytest
import torch
from torch import nn

import lorate
from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.optim.evaluation import Batch
from lorate.optim.layout import slots
from lorate.rules.auto.control import Control
from optim.test_whitening import Readable
from peft_models import linear_model, mixed_model


def batches(count, dtype=torch.float64, size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(8, size, dtype=dtype, generator=generator), torch.randn(8, size, dtype=dtype, generator=generator))
        for _ in range(count)
    ]


def closure_for(optimizer, model, batch, scale=1.0):
    def closure():
        x, y = batch
        loss = scale * (model(x) - y).square().mean()
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    return closure


def train(model, optimizer, data, scale=1.0):
    for batch in data:
        optimizer.step(closure_for(optimizer, model, batch, scale))
    return optimizer


def adapters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


class Reference:
    """The whole rule once more: z, x, y and both sensitivities kept as they are, and nothing clever."""

    def __init__(self, model):
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.directions = [Readable() for _ in self.parameters]
        self.y = self.parameters
        self.x, self.z = ([p.detach().clone() for p in self.parameters] for _ in "xz")
        self.s_z, self.s_x, self.moved = ([torch.zeros_like(p) for p in self.parameters] for _ in "zxm")
        self.control, self.taken = None, 0

    def step(self, batch):
        x, y = batch
        loss = (self.model(x) - y).square().mean()
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            if self.control is not None:
                slopes = [
                    sum(float((g * s).sum()) for g, s in zip(gradients, of, strict=True))
                    for of in (self.s_x, self.moved)
                ]
                self.control = self.control.followed(*slopes, 1.0)
            D = [
                readable(g) if g.shape[0] <= g.shape[1] else readable(g.T).T
                for readable, g in zip(self.directions, gradients, strict=True)
            ]
            if self.control is None:
                self.control = Control.first(float(torch.cat([d.flatten() for d in D]).square().mean().sqrt()))
            self.taken += 1
            w, b = 3 / (self.taken + 2), 0.5
            self.x_before = [p.clone() for p in self.x]
            for i, d in enumerate(D):
                self.s_z[i] = 0.95 * self.s_z[i] + self.control.eta * d
                self.s_x[i] += w * (self.s_z[i] - self.s_x[i])
                self.z[i] = self.z[i] + self.control.eta * d
                self.x[i] = self.x[i] + w * (self.z[i] - self.x[i])
                new = (1 - b) * self.z[i] + b * self.x[i]
                self.moved[i] = new - self.y[i]
                self.y[i].copy_(new)


def test_equals_the_readable_reference():
    model, twin = linear_model(), linear_model()
    optimizer, reference = lorate.create_optimizer(model), Reference(twin)
    for number, batch in enumerate(batches(60)):
        optimizer.step(closure_for(optimizer, model, batch))
        reference.step(batch)
        assert optimizer.rule.control.eta == pytest.approx(reference.control.eta, rel=1e-6), number
        torch.testing.assert_close(adapters(model), adapters(twin), rtol=1e-6, atol=1e-9)
    with optimizer.averaged():  # without the last step, which may still be taken back
        torch.testing.assert_close(
            adapters(model), torch.cat([x.flatten() for x in reference.x_before]), rtol=1e-6, atol=1e-9
        )


def test_it_trains_without_a_learning_rate_whatever_the_scaling():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(12, 16, dtype=torch.float64, generator=generator) / 4
    change = torch.randn(12, 2, dtype=torch.float64, generator=generator) @ torch.randn(
        2, 16, dtype=torch.float64, generator=generator
    )
    finals = []
    for alpha in (0.25, 4, 256):
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Linear(16, 12, bias=False, dtype=torch.float64))
        layer[0].weight.data = base.clone()
        config = peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["0"])
        model = peft.get_peft_model(layer, config, autocast_adapter_dtype=False)
        data = torch.Generator().manual_seed(2)
        optimizer = lorate.create_optimizer(model, "auto")
        for _ in range(300):
            x = torch.randn(16, 16, dtype=torch.float64, generator=data)
            y = x @ (base + change).T + 0.1 * torch.randn(16, 12, dtype=torch.float64, generator=data)
            optimizer.step(closure_for(optimizer, model, (x, y)))
        with optimizer.averaged():
            weight = model.merge_and_unload()[0].weight.detach()
        finals.append(float((weight - base - change).square().sum() / change.square().sum()))
    assert max(finals) < 0.01, finals


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("direction", [None, partial(torch.optim.AdamW, weight_decay=0.0, eps=0.0)])
def test_the_scale_of_the_loss_cancels(scale, direction):
    model, scaled = linear_model(), linear_model()
    data = batches(60)
    train(model, lorate.create_optimizer(model, direction=direction), data)
    train(scaled, lorate.create_optimizer(scaled, direction=direction), data, scale)
    torch.testing.assert_close(adapters(model), adapters(scaled), rtol=1e-4, atol=1e-7)


def test_a_coordinate_without_gradient_stands_still_with_eps_zero():
    # PEFT starts B at zero, so that A has no gradient at first: 0/0 in AdamW without eps
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 6)), config)
    optimizer = lorate.create_optimizer(model, direction=partial(torch.optim.AdamW, eps=0.0, weight_decay=0.0))
    first = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_A" in name}
    train(model, optimizer, batches(1, torch.float32))
    assert all(torch.equal(p, first[name]) for name, p in model.named_parameters() if "lora_A" in name)
    train(model, optimizer, batches(5, torch.float32))
    assert torch.isfinite(adapters(model)).all()
    assert any(not torch.equal(p, first[name]) for name, p in model.named_parameters() if "lora_A" in name)


@pytest.mark.parametrize(
    "direction",
    [None, partial(torch.optim.SGD, lr=7.0, momentum=0.9), partial(torch.optim.AdamW, lr=1e-9, weight_decay=0.1)],
    ids=["adamw", "momentum", "decay"],
)
def test_any_direction_lowers_the_loss(direction):
    model = linear_model()
    optimizer = lorate.create_optimizer(model, direction=direction)
    data = batches(1) * 80
    train(model, optimizer, data)
    x, y = data[0]
    with optimizer.averaged():
        assert (model(x) - y).square().mean() < 0.9 * (linear_model()(x) - y).square().mean()


def test_replay_does_as_a_closure_does():
    model, twin = linear_model(), linear_model()
    data = batches(30)
    train(model, lorate.create_optimizer(model), data)
    optimizer = lorate.create_optimizer(twin)
    for x, y in data:
        optimizer.zero_grad()
        loss = (twin(x) - y).square().mean()
        loss.backward()
        optimizer.replay = lambda x=x, y=y: (twin(x) - y).square().mean()
        optimizer.step(loss=loss)
    assert torch.equal(adapters(model), adapters(twin))


def test_accumulated_gradients_are_those_of_the_whole_batch():
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    for x, y in batches(40):
        optimizer.zero_grad()
        for row in range(8):
            ((model(x[row : row + 1]) - y[row : row + 1]).square().mean() / 8).backward()
        optimizer.step()
    whole = train(twin := linear_model(), lorate.create_optimizer(twin), batches(40))
    assert optimizer.rule.control.eta == pytest.approx(whole.rule.control.eta, rel=1e-9)
    torch.testing.assert_close(adapters(model), adapters(twin), rtol=1e-9, atol=1e-12)


def test_neither_loss_nor_closure_is_needed():
    model, twin = linear_model(), linear_model()
    optimizer = lorate.create_optimizer(model)
    for x, y in batches(30):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    train(twin, lorate.create_optimizer(twin), batches(30))
    assert torch.equal(adapters(model), adapters(twin))


class Noisy(nn.Module):
    """Dropout and batch norm: random state and buffers that a probe could disturb."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.second = (
            nn.Linear(6, 6),
            nn.BatchNorm1d(6),
            nn.Dropout(0.3),
            nn.Linear(6, 6),
        )

    def forward(self, x):
        return self.second(self.drop(self.norm(self.first(x))))


def noisy_model():
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["first", "second"], lora_dropout=0.2)
    return peft.get_peft_model(Noisy(), config).train()


def test_a_look_back_leaves_no_trace():
    """After a batch whose loss is not finite the one before is evaluated again, to see who is to blame."""
    model = noisy_model()
    optimizer = lorate.create_optimizer(model)
    data = batches(12, torch.float32)
    train(model, optimizer, data)
    inner = closure_for(optimizer, model, data[0])

    def state():
        return [
            torch.get_rng_state(),
            *(b.clone() for b in model.buffers()),
            *(p.clone() for p in optimizer._parameters),
        ]

    def closure():
        loss = inner() * math.inf
        if loss.requires_grad:
            closure.trace = state()
        return loss

    optimizer.step(closure)
    assert optimizer.last.skipped == "the loss is inf"
    assert all(torch.equal(a, b) for a, b in zip(closure.trace, state(), strict=True))


def test_weights_after_a_probe_are_bit_for_bit_those_before():
    model = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(model)
    data = batches(10, torch.float32)
    train(model, optimizer, data)
    before = adapters(model)
    current = slots(optimizer.param_groups)
    closure = closure_for(optimizer, model, data[0])
    batch = Batch(optimizer.rule, current, closure, None, optimizer.forward)
    line = optimizer._line(current, batch, None)
    with torch.no_grad():
        assert line.last.loss_before(1.0) != line.last.loss_before(0.0)
    assert torch.equal(adapters(model), before)


def test_resumes_with_identical_numbers(tmp_path):
    data = batches(40, torch.float32)
    whole = train(model := linear_model(torch.float32), lorate.create_optimizer(model), data)
    half = train(first := linear_model(torch.float32), lorate.create_optimizer(first), data[:17])
    half.use_average()  # as a checkpoint between two steps holds it
    torch.save({"model": first.state_dict(), "optimizer": half.state_dict()}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    second = linear_model(torch.float32)
    second.load_state_dict(saved["model"])
    resumed = lorate.create_optimizer(second)
    resumed.load_state_dict(saved["optimizer"])
    resumed.use_last()
    train(second, resumed, data[17:])
    assert torch.equal(adapters(second), adapters(model))
    assert resumed.rule.control == whole.rule.control
    with whole.averaged(), resumed.averaged():
        assert torch.equal(adapters(second), adapters(model))


@pytest.mark.parametrize("through", ["state", "pickle"])
def test_the_last_step_is_averaged_after_a_resume_too(through):
    data = batches(12)
    optimizer = train(model := linear_model(), lorate.create_optimizer(model), data)
    if through == "pickle":
        again = pickle.loads(pickle.dumps(optimizer))
        again.use_average()
        found = torch.cat([p.detach().flatten() for group in again.param_groups for p in group["params"]])
    else:
        (second := linear_model()).load_state_dict(model.state_dict())
        again = lorate.create_optimizer(second)
        again.load_state_dict(optimizer.state_dict())
        again.use_average()
        found = adapters(second)
    with optimizer.averaged():
        expected = torch.cat([p.detach().flatten() for group in optimizer.param_groups for p in group["params"]])
        torch.testing.assert_close(found, expected if through == "pickle" else adapters(model), rtol=0, atol=0)


def test_state_of_another_rule_is_refused():
    model = linear_model()
    other = lorate.create_optimizer(model, "normalized")
    with pytest.raises(LorateError, match="saved under rule 'normalized'"):
        lorate.create_optimizer(model).load_state_dict(other.state_dict())


def test_can_be_pickled_and_copied():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(5))
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.rule.control == optimizer.rule.control
    assert copy.deepcopy(optimizer).rule.control == optimizer.rule.control


def test_average_and_last_adapters_change_places():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(30))
    last = adapters(model)
    with optimizer.averaged():
        assert not torch.equal(adapters(model), last)
        with optimizer.averaged():
            pass
        assert optimizer.is_averaged
        with pytest.raises(LorateError, match="use_last"):
            train(model, optimizer, batches(1))
    assert torch.equal(adapters(model), last)
    optimizer.finish()
    assert not torch.equal(adapters(model), last)
    assert not model._forward_pre_hooks


def test_a_bad_batch_is_skipped_and_costs_nothing():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(20))
    before, control = adapters(model), optimizer.rule.control
    x, y = batches(1)[0]
    train(model, optimizer, [(x * math.nan, y)])
    assert "loss is nan" in optimizer.last.skipped
    assert "taken back" not in optimizer.last.skipped
    assert torch.equal(adapters(model), before)
    assert optimizer.rule.control == control
    train(model, optimizer, batches(1))
    assert optimizer.last.skipped is None


def test_a_step_into_infinity_is_taken_back():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(10))
    before = adapters(model)
    train(model, optimizer, batches(1))
    with optimizer.averaged():
        average = adapters(model)
    cliff, eta = adapters(model), optimizer.rule.control.eta
    inner = closure_for(optimizer, model, batches(1)[0])

    def closure():
        loss = inner()
        return loss * math.inf if torch.equal(adapters(model), cliff) else loss

    optimizer.step(closure)
    assert "taken back" in optimizer.last.skipped
    torch.testing.assert_close(adapters(model), before, rtol=1e-9, atol=1e-12)
    with optimizer.averaged():  # neither do the averaged adapters keep any of it
        torch.testing.assert_close(adapters(model), average, rtol=1e-9, atol=1e-12)
    assert optimizer.rule.control.eta == eta / 4
    seen = optimizer.rule.control.steps
    train(model, optimizer, batches(1))
    assert optimizer.last.skipped is None
    assert optimizer.rule.control.steps == seen  # there is no displacement to look back at


def test_other_parameters_and_groups_of_their_own():
    model = mixed_model(modules_to_save=["head"])
    pairs = find_pairs(model)
    groups = [{"params": [pair.B for pair in pairs], "lr": 4.0}]
    optimizer = lorate.create_optimizer(model, groups=groups, direction=partial(torch.optim.AdamW, weight_decay=0.0))
    tokens = torch.randint(0, 11, (8, 4), generator=torch.Generator().manual_seed(0))

    def closure():
        loss = model(tokens).square().mean()
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
        return loss

    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    first = float(optimizer.step(closure).detach())
    moved = {
        name: float((p.detach() - start[name]).abs().max()) for name, p in model.named_parameters() if name in start
    }
    side_b = [value for name, value in moved.items() if "lora_B" in name and value > 0]
    heads = [value for name, value in moved.items() if "head" in name]
    assert min(side_b) == pytest.approx(4 * max(heads), rel=1e-3)
    for _ in range(40):
        last = optimizer.step(closure)
    assert float(last.detach()) < 0.5 * first


def test_schedules_multiply_and_warm_up_may_start_at_zero():
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(t / 10, 1.0))
    for number, batch in enumerate(batches(30)):
        before = adapters(model)
        optimizer.step(closure_for(optimizer, model, batch))
        assert optimizer.last.eta == pytest.approx(min(number / 10, 1.0) * optimizer.rule.control.eta)
        assert torch.equal(adapters(model), before) == (number == 0)
        schedule.step()


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60),
        lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97),
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min((t + 1) / 3, 1 - t / 60)),
    ],
)
def test_it_trains_under_a_schedule_that_falls_from_the_start(schedule):
    x, target = batches(1)[0][0], batches(1, seed=2)[0][0][:6]
    ends = []
    for build in (lambda optimizer: None, schedule):
        model = linear_model()
        optimizer = lorate.create_optimizer(model)
        built = build(optimizer)
        for _ in range(60):
            optimizer.step(closure_for(optimizer, model, (x, x @ target)))
            if built is not None:
                built.step()
        optimizer.finish()
        ends.append(float((model(x) - x @ target).square().mean().detach()))
    assert ends[1] < 1.2 * ends[0]


def test_grad_scaler_changes_nothing():
    data = batches(30, torch.float32)
    plain = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(plain)
    scaled = linear_model(torch.float32)
    other, scaler = lorate.create_optimizer(scaled), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x, y in data:
        for model, opt in ((plain, optimizer), (scaled, other)):
            opt.zero_grad()
            loss = (model(x) - y).square().mean()
            (loss if opt is optimizer else scaler.scale(loss)).backward()
            opt.replay = lambda x=x, y=y, model=model: (model(x) - y).square().mean()
            if opt is optimizer:
                opt.step(loss=loss)
            else:
                scaler.step(opt, loss=loss)
                scaler.update()
    torch.testing.assert_close(adapters(plain), adapters(scaled), rtol=1e-4, atol=1e-6)


def test_a_step_that_fails_leaves_no_loss_scale_behind():
    model = linear_model(torch.float32)
    optimizer, scaler = lorate.create_optimizer(model, "adaptive-loss"), torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, y = batches(1, torch.float32)[0]
    scaler.scale((model(x) - y).square().mean()).backward()
    with pytest.raises(LorateError, match="needs the loss"):
        scaler.step(optimizer)
    assert not hasattr(optimizer, "grad_scale")


def test_under_bfloat16_it_ends_where_float32_does():
    ends = []
    for half in (False, True):
        model = linear_model(torch.float32)
        optimizer = lorate.create_optimizer(model)
        for x, y in batches(60, torch.float32):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = (model(x).float() - y).square().mean()
            loss.backward()
            optimizer.step()
        with optimizer.averaged():
            x, y = batches(1, torch.float32, seed=7)[0]
            ends.append(float((model(x) - y).square().mean().detach()))
    assert ends[1] == pytest.approx(ends[0], rel=0.02)


def test_steps_without_a_gradient_teach_nothing():
    """Batches without a trained token, at the start: not one of them may make the first real step longer."""
    model, twin = linear_model(), linear_model()
    optimizer, other = lorate.create_optimizer(model), lorate.create_optimizer(twin)
    for _ in range(16):
        optimizer.zero_grad()
        (0.0 * sum(p.sum() for p in optimizer._parameters)).backward()
        optimizer.step()
    data = batches(1)
    before = adapters(model)
    train(model, optimizer, data)
    train(twin, other, data)
    lengths = [float((adapters(one) - before).square().mean().sqrt()) for one in (model, twin)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.5)  # y is nearer to x by then
    assert optimizer.rule.control.eta == pytest.approx(other.rule.control.eta, rel=1e-3)


def test_data_that_end_in_zero_gradients_leave_the_adapters_where_they_are():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(30))
    eta = optimizer.rule.control.eta
    for _ in range(1300):
        optimizer.zero_grad()
        (0.0 * sum(p.sum() for p in optimizer._parameters)).backward()
        optimizer.step()
    assert optimizer.last.skipped is None
    assert optimizer.rule.control.eta <= eta * 1.7  # the slope of the last real step is still to be counted
    assert torch.isfinite(adapters(model)).all()


def test_without_a_way_to_look_again_two_faults_in_a_row_are_the_steps_own():
    model = linear_model()
    optimizer = train(model, lorate.create_optimizer(model), batches(20))
    eta, taken = optimizer.rule.control.eta, []
    for _ in range(2):
        optimizer.zero_grad()
        loss = (model(batches(1)[0][0]) * math.inf).square().mean()
        loss.backward()
        optimizer.step(loss=loss)
        taken.append("taken back" in optimizer.last.skipped)
    assert taken == [False, True]
    assert optimizer.rule.control.eta == eta / 4


def test_a_closure_that_returns_no_number_is_told_so():
    optimizer = lorate.create_optimizer(linear_model())
    with pytest.raises(LorateError, match=r"must return one number.*\[2\]"):
        optimizer.step(lambda: torch.zeros(2))


def test_is_the_default_and_refuses_what_it_does_not_use():
    model = linear_model()
    assert lorate.create_optimizer(model).rule.name == "auto"
    with pytest.raises(LorateError, match="smoothness"):
        lorate.create_optimizer(model, "auto", smoothness=1.0)
    with pytest.raises(LorateError, match="gradient_norm"):
        lorate.create_optimizer(model, "auto", gradient_norm="sketch")
