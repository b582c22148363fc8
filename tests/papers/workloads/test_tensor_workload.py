import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate_papers.workloads import AdapterSpec
from lorate_papers.workloads.tensor_workload import TensorWorkload, own_loss

SPEC = AdapterSpec(rank=2, alpha=6.0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 64)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x))))


def loss_of(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


@pytest.fixture
def workload():
    x, y = torch.randn(29, 5), torch.randint(0, 3, (29,))
    return TensorWorkload(
        "toy", Net(), ("first", "last"), {"x": x[:12], "y": y[:12]}, {"x": x[12:], "y": y[12:]}, loss_of, chunk=5
    )


def test_only_the_adapters_train_and_the_base_is_the_template(workload):
    model = workload.model(SPEC, 0)
    assert model.training
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    for name, weight in workload.template.named_parameters():
        (found,) = (p for key, p in frozen.items() if key.replace("base_layer.", "").endswith(name))
        assert torch.equal(found, weight)
    assert workload.validation_loss(model) == pytest.approx(workload.validation_loss(workload.template))  # B = 0
    assert [pair.rank for pair in find_pairs(model)] == [2, 2]


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 3.0), (True, 6 / math.sqrt(2))])
def test_scaling_and_dropout_reach_peft(workload, rslora, scaling):
    model = workload.model(AdapterSpec(2, 6.0, dropout=0.25, use_rslora=rslora), 0)
    assert [pair.scaling for pair in find_pairs(model)] == pytest.approx([scaling, scaling])
    assert [pair.dropout for pair in find_pairs(model)] == [0.25, 0.25]


def test_the_start_depends_on_the_seed_alone(workload):
    def factors(seed, **more):
        return torch.cat(
            [pair.A.detach().flatten() for pair in find_pairs(workload.model(AdapterSpec(2, 6, **more), seed))]
        )

    before = torch.random.get_rng_state()
    first = factors(0)
    torch.manual_seed(77)
    assert torch.equal(factors(0), first) and not torch.equal(factors(1), first)
    torch.random.set_rng_state(before)
    factors(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    small = factors(0, init_std=1e-3)
    assert 0.8e-3 < float(small.std()) < 1.2e-3 and torch.equal(factors(0, init_std=1e-3), small)


def test_without_adapter_everything_trains_and_the_template_stays(workload):
    kept = {name: p.clone() for name, p in workload.template.named_parameters()}
    model = workload.model(None, 0)
    assert all(p.requires_grad for p in model.parameters()) and model.training
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    workload.loss(model, workload.train).backward()
    optimizer.step()
    assert all(torch.equal(p, kept[name]) for name, p in workload.template.named_parameters())
    assert not torch.equal(model.last.weight, kept["last.weight"])
    assert all(p.grad is None for p in workload.template.parameters())


def test_each_pass_shows_every_example_once_in_a_new_order(workload):
    found = list(itertools.islice(workload.batches(4, 3), 6))
    torch.randn(7)
    again = list(itertools.islice(workload.batches(4, 3), 6))
    assert all(torch.equal(a["x"], b["x"]) and torch.equal(a["y"], b["y"]) for a, b in zip(found, again, strict=True))
    passes = [torch.cat([batch["x"] for batch in found[start : start + 3]]) for start in (0, 3)]
    for seen in passes:
        assert sorted(seen.tolist()) == sorted(workload.train["x"].tolist())
    assert not torch.equal(*passes)
    other = next(workload.batches(4, 4))
    assert not torch.equal(other["x"], found[0]["x"])
    row = found[0]["x"][0]
    place = int((workload.train["x"] == row).all(1).nonzero())
    assert found[0]["y"][0] == workload.train["y"][place]


def test_a_short_last_batch_is_left_out(workload):
    assert all(len(batch["x"]) == 5 for batch in itertools.islice(workload.batches(5, 0), 7))


def test_the_whole_training_set_each_time(workload):
    assert all(batch is workload.train for batch in itertools.islice(workload.batches(None, 0), 3))


@pytest.mark.parametrize("size", [0, 13])
def test_a_wrong_batch_size_is_refused_at_once(workload, size):
    with pytest.raises(LorateError, match="12 training examples"):
        workload.batches(size, 0)


def test_validation_is_the_mean_over_all_held_out_examples_and_leaves_no_trace(workload):
    model = workload.model(None, 0)
    model.first.eval()
    modes = [module.training for module in model.modules()]
    before = torch.random.get_rng_state()
    found = workload.validation_loss(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        expected = float(loss_of(model.eval(), workload.held_out))  # 17 examples, in chunks of 5
    assert found == pytest.approx(expected, rel=1e-6)


def test_validation_of_a_diverged_model_is_nan(workload):
    model = workload.model(None, 0)
    nn.init.constant_(model.last.bias, float("nan"))
    assert math.isnan(workload.validation_loss(model))


def test_modes_come_back_after_an_error(workload):
    model = workload.model(None, 0)
    broken = TensorWorkload("toy", Net(), ("first",), workload.train, workload.held_out, own_loss)
    with pytest.raises(TypeError):
        broken.validation_loss(model)
    assert model.training


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rank": 0, "alpha": 1.0}, "rank"),
        ({"rank": 1, "alpha": 0.0}, "alpha"),
        ({"rank": 1, "alpha": float("nan")}, "alpha"),
        ({"rank": 1, "alpha": 1.0, "init_std": 0.0}, "standard deviation"),
    ],
)
def test_an_impossible_adapter_is_refused(given, words):
    with pytest.raises(LorateError, match=words):
        AdapterSpec(**given)
