"""Factors that share their numbers are trained as what they are: one tensor with two uses."""

import copy
import warnings
from typing import Any

import peft
import pytest
import torch
from _peft_methods import LORA, base
from torch import Tensor, nn

import lorate
from lorate import ranks
from lorate.errors import LorateError


def tied(dtype: torch.dtype = torch.float64) -> Any:
    """LoRA on the input and the output layer of a model that ties them, with random factors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = base()
        model.config.tie_word_embeddings = True
        model.tie_weights()
        targets = {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "ensure_weight_tying": True}
        wrapped = peft.get_peft_model(
            model.to(dtype), peft.LoraConfig(**{**LORA, **targets, "init_lora_weights": False})
        )
    factors = dict(wrapped.named_parameters())
    assert {p.dtype for p in factors.values()} == {dtype}
    return wrapped.train()


def loss_of(model: Any) -> Tensor:
    ids = torch.arange(24).reshape(2, 12) % 15 + 1  # 0 is padding, which gets no gradient
    return nn.functional.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def factors(model: nn.Module, word: str) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if word in name and "lora_" in name}


def test_peft_still_makes_two_parameters_of_one_tensor() -> None:
    """Otherwise there is nothing left to do here."""
    model = tied()
    inner, outer = factors(model, "embed_tokens"), factors(model, "lm_head")
    assert {p.data_ptr() for p in inner.values()} == {p.data_ptr() for p in outer.values()}
    assert not {id(p) for p in inner.values()} & {id(p) for p in outer.values()}


@pytest.mark.parametrize("times", [1, 2])
def test_the_gradient_is_that_of_both_uses(times: int) -> None:
    model = tied()
    for _ in range(times):  # another optimizer of the same model adds nothing twice
        optimizer = lorate.create_optimizer(model)
    loss_of(model).backward()
    (2 * loss_of(model)).backward()  # accumulated
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, p in factors(model, "embed_tokens").items():
        assert id(p) in trained and p.grad is not None
        along, before = torch.randn_like(p), p.detach().clone()
        values = []
        for sign in (1, -1):
            p.data.copy_(before + sign * 1e-3 * along)
            values.append(loss_of(model).item())
        p.data.copy_(before)
        assert float((p.grad * along).sum()) == pytest.approx(3 * (values[0] - values[1]) / 2e-3, rel=2e-3), name
    for p in factors(model, "lm_head").values():
        assert p.grad is None and id(p) not in trained


@pytest.mark.parametrize(
    ("rule", "lr"), [("auto", None), ("normalized", 0.1), ("adaptive-loss", None), ("constant", 0.01)]
)
def test_rules_train_them_and_they_stay_one(rule: str, lr: float | None) -> None:
    model = tied(torch.float32)
    start = loss_of(model).item()
    optimizer = lorate.create_optimizer(model, rule, lr=lr)
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step(loss=loss)
    optimizer.finish()
    assert loss_of(model).item() < 0.9 * start
    inner, outer = factors(model, "embed_tokens"), factors(model, "lm_head")
    for a, b in zip(inner.values(), reversed(outer.values()), strict=True):
        assert torch.equal(a, b.mT) and a.data_ptr() == b.data_ptr()
    again = lorate.create_optimizer(tied(torch.float32), rule, lr=lr)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def test_rules_that_rest_on_one_layer_refuse_them() -> None:
    with pytest.raises(LorateError, match=r"share their numbers, so that neither.*rule 'majorizer'.*use 'auto'"):
        lorate.create_optimizer(tied(), "majorizer", smoothness=1.0)


def test_several_processes_refuse_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(LorateError, match=r"several processes would add up too early \(leave ensure_weight_tying off"):
        lorate.create_optimizer(tied())


def test_a_part_of_the_numbers_in_common_is_refused() -> None:
    model = nn.Linear(4, 3)
    model.other = nn.Parameter(model.weight.detach()[:2])
    with pytest.raises(LorateError, match="but not all of them"):
        lorate.create_optimizer(model)
    numbers = torch.zeros(4, 6)
    for other in (numbers[:2, :], numbers[:2, :].mT):  # as many each, and not the same ones
        with pytest.raises(LorateError, match="but not all of them"):
            lorate.create_optimizer(nn.ParameterList([numbers[:, :3], other]))


def test_two_that_lie_turned_are_one_as_well() -> None:
    numbers = torch.arange(6.0).reshape(2, 3)
    both = nn.ParameterList([numbers.mT, numbers.mT])
    assert not both[0].is_contiguous() and both[0] is not both[1]
    optimizer = lorate.create_optimizer(both)
    first, second = torch.randn(3, 2), torch.randn(3, 2)
    ((both[0] * first).sum() + (both[1] * second).sum()).backward()
    ((owner,),) = [group["params"] for group in optimizer.param_groups]
    assert torch.equal(owner.grad, first + second)
