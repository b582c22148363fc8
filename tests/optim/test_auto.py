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
    """The whole rule once more, on dense weight displacements and with nothing clever."""

    def __init__(self, model):
        self.model, self.pairs = model, find_pairs(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.inner = torch.optim.AdamW([p.detach().clone() for p in self.parameters], lr=1.0, weight_decay=0.0)
        self.control, self.direction, self.average = None, None, [p.detach().clone() for p in self.parameters]
        self.taken = 0

    def weights(self):
        return torch.cat([(pair.scaling * pair.B @ pair.A).detach().flatten() for pair in self.pairs])

    def step(self, batch):
        x, y = batch
        loss = (self.model(x) - y).square().mean()
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            if self.control is not None:
                e = self.control.eta
                slope = e * sum(float((g * d).sum()) for g, d in zip(gradients, self.direction, strict=True))
                now = self.weights()
                for p, d in zip(self.parameters, self.direction, strict=True):
                    p -= e * d
                moved = float((now - self.weights()).square().sum())
                before = float((self.model(x) - y).square().mean())
                for p, d in zip(self.parameters, self.direction, strict=True):
                    p += e * d
                due = self.control.probe_is_due
                self.control = self.control.seen()
                if due:
                    self.control = self.control.probed(2 * (slope - (float(loss) - before)), moved)
                self.control = self.control.followed(slope, self.promised, moved, 1.0)
            inner = self.inner.param_groups[0]["params"]
            for p, copy_, g in zip(self.parameters, inner, gradients, strict=True):
                copy_.copy_(p)
                copy_.grad = g.clone()
            self.inner.step()
            self.direction = [copy_ - p for p, copy_ in zip(self.parameters, inner, strict=True)]
            if self.control is None:
                flat = torch.cat([d.flatten() for d in self.direction])
                self.control = Control.first(float(flat.square().mean().sqrt()))
            e = self.control.eta
            self.promised = e * sum(float((g * d).sum()) for g, d in zip(gradients, self.direction, strict=True))
            self.taken += 1
            self.average_before = [u.clone() for u in self.average]
            for p, d, u in zip(self.parameters, self.direction, self.average, strict=True):
                p += e * d
                u.lerp_(p, 6 / (self.taken + 5))


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
            adapters(model), torch.cat([u.flatten() for u in reference.average_before]), rtol=1e-6, atol=1e-9
        )
    assert optimizer.rule.control.signal_fraction == pytest.approx(reference.control.signal_fraction, rel=1e-5)
    assert optimizer.rule.control.probes == reference.control.probes < 40


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


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_loss_cancels(scale):
    direction = partial(torch.optim.AdamW, weight_decay=0.0, eps=0.0)
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


def test_accumulated_gradients_are_probed_on_all_micro_batches():
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    for x, y in batches(40):
        optimizer.zero_grad()
        losses = []

        def part(rows, x=x, y=y):
            return (model(x[rows]) - y[rows]).square().mean() / 2

        halves = (slice(0, 4), slice(4, 8))
        for rows in halves:
            loss = part(rows)
            loss.backward()
            losses.append(loss.detach())
        optimizer.replay = lambda part=part, halves=halves: sum(part(rows) for rows in halves)
        optimizer.step(loss=sum(losses))
    whole = train(twin := linear_model(), lorate.create_optimizer(twin), batches(40))
    assert optimizer.rule.control.probes == whole.rule.control.probes > 10
    assert optimizer.rule.control.smoothness == pytest.approx(whole.rule.control.smoothness)
    assert optimizer.rule.control.eta == pytest.approx(whole.rule.control.eta)


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


def test_a_probe_sees_the_randomness_of_training_and_leaves_no_trace():
    model = noisy_model()
    optimizer = lorate.create_optimizer(model)
    seen = []

    class Spy:
        """Evaluates at the weights of training and before the last step; the first must be the training loss."""

        def __init__(self, batch):
            self.inner = closure_for(optimizer, model, batch)

        def __call__(self):
            loss = self.inner()
            if loss.requires_grad:
                self.loss = float(loss.detach())
                self.trace = self.state()
            else:
                moved = [p.detach().clone() for p in optimizer._parameters]
                state = optimizer.forward.random_state
                for p, d in zip(optimizer._parameters, optimizer._move.directions, strict=True):
                    p.data.add_(d, alpha=optimizer._move.length)
                torch.set_rng_state(state.torch)
                seen.append((self.loss, float(self.inner())))
                for p, value in zip(optimizer._parameters, moved, strict=True):
                    p.data.copy_(value)
            return loss

        def state(self):
            return [
                torch.get_rng_state(),
                *(b.clone() for b in model.buffers()),
                *(p.grad for p in optimizer._parameters),
            ]

    for batch in batches(12, torch.float32):
        spy = Spy(batch)
        optimizer.step(spy)
        after = spy.state()
        assert all(torch.equal(a, b) for a, b in zip(spy.trace, after, strict=True))
    assert len(seen) == optimizer.rule.control.probes > 5
    for training, replayed in seen:
        assert replayed == pytest.approx(training, rel=1e-5)


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
    assert optimizer.rule.control.smoothness is None
    seen = optimizer.rule.control.steps
    train(model, optimizer, batches(1))
    assert optimizer.last.skipped is None
    assert optimizer.rule.control.steps == seen  # there is no displacement to look back at


def test_other_parameters_and_groups_of_their_own():
    model = mixed_model(modules_to_save=["head"])
    pairs = find_pairs(model)
    optimizer = lorate.create_optimizer(model, groups=[{"params": [pair.B for pair in pairs], "lr": 4.0}])
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


def test_parameters_beside_lora_count_in_the_length_of_a_displacement():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["2"])
    model = peft.get_peft_model(network, config, autocast_adapter_dtype=False)
    optimizer = lorate.create_optimizer(model)
    (pair,) = find_pairs(model)
    head = [p for name, p in model.named_parameters() if "modules_to_save" in name]

    def trained():
        return [(pair.scaling * pair.B @ pair.A).detach().clone(), *(p.detach().clone() for p in head)]

    for batch in batches(3):
        before = trained()
        optimizer.step(closure_for(optimizer, model, batch))
    moved = sum(float((a - b).square().sum()) for a, b in zip(trained(), before, strict=True))
    e = optimizer._move.length
    _, pp, pq, qq = optimizer._move.numbers.tolist()
    assert e**2 * pp + 2 * e**3 * pq + e**4 * qq == pytest.approx(moved, rel=1e-6)


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
    optimizer, scaler = lorate.create_optimizer(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, y = batches(1, torch.float32)[0]
    scaler.scale((model(x) - y).square().mean()).backward()
    with pytest.raises(LorateError, match="needs the loss"):
        scaler.step(optimizer)
    assert not hasattr(optimizer, "grad_scale")


def test_bfloat16_discards_probes_that_drown_in_rounding():
    model = linear_model(torch.float32)
    optimizer = lorate.create_optimizer(model)
    for x, y in batches(40, torch.float32):

        def closure(x=x, y=y):
            with torch.autocast("cpu", torch.bfloat16):
                loss = (model(x).float() - y).square().mean()
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
    assert optimizer.forward.dtype == torch.bfloat16
    assert optimizer.rule.control.discarded > 0
    assert optimizer.rule.control.probes > 5


def test_what_is_missing_is_named():
    model = linear_model()
    x, y = batches(1)[0]
    optimizer = lorate.create_optimizer(model)
    (model(x) - y).square().mean().backward()
    with pytest.raises(LorateError, match="needs the loss"):
        optimizer.step()
    with pytest.raises(LorateError, match="must return the loss"):
        optimizer.step(lambda: None)
    optimizer.step(loss=1.0)
    with pytest.raises(LorateError, match=r"optimizer\.replay ="):
        optimizer.step(loss=1.0)


def test_a_closure_that_always_calls_backward_is_told_how():
    model = linear_model()
    optimizer = lorate.create_optimizer(model)
    x, y = batches(1)[0]

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(LorateError, match=r"if loss\.requires_grad"):
        optimizer.step(closure)


def test_is_the_default_and_refuses_what_it_does_not_use():
    model = linear_model()
    assert lorate.create_optimizer(model).rule.name == "auto"
    with pytest.raises(LorateError, match="smoothness"):
        lorate.create_optimizer(model, "auto", smoothness=1.0)
    with pytest.raises(LorateError, match="gradient_norm"):
        lorate.create_optimizer(model, "auto", gradient_norm="sketch")
