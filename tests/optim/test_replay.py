"""What is evaluated between two steps leaves no trace."""

import pytest
import torch
from torch import nn

from lorate.optim.replay import random_state, without_trace


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    model(torch.randn(4, 3)).sum().backward()
    return model


def test_everything_is_put_back_even_after_an_error(model):
    parameters = list(model.parameters())
    values = [p.detach().clone() for p in parameters]
    gradients = [p.grad for p in parameters]
    copies = [g.clone() for g in gradients]
    buffers = [b.clone() for b in model.buffers()]
    state = torch.get_rng_state()
    with pytest.raises(KeyError), torch.no_grad(), without_trace(model, parameters, None):
        model(torch.randn(7, 3))
        for p in parameters:
            p.mul_(3.0)
            p.grad = None
        raise KeyError
    assert all(torch.equal(p, value) for p, value in zip(parameters, values, strict=True))
    assert all(p.grad is g and torch.equal(g, c) for p, g, c in zip(parameters, gradients, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_state_of_training_is_in_force_inside(model):
    state = random_state(torch.device("cpu"))
    first = torch.randn(3)
    with torch.no_grad(), without_trace(model, model.parameters(), state):
        assert torch.equal(torch.randn(3), first)
