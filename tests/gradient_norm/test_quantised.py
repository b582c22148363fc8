"""Frozen layers in 8 and 4 bits: G is that of the same layer with its weight written out."""

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

import lorate
from lorate.adapters import find_pairs
from lorate.gradient_norm import GradientCapture

from .models import adapt, loss_of, norms_of, thaw

METHODS = ["exact", "sketch"]


def eight_bits(in_dim: int, out_dim: int) -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes")
    layer: nn.Module = bnb.nn.Linear8bitLt(in_dim, out_dim, bias=False, has_fp16_weights=False)
    return layer


def four_bits(in_dim: int, out_dim: int) -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install bitsandbytes")
    layer: nn.Module = bnb.nn.Linear4bit(in_dim, out_dim, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    return layer


def quantised_and_dense(bits: int) -> tuple[nn.Module, nn.Module]:
    """A model on bitsandbytes layers, and the same model with plain layers; B away from zero."""
    build: Callable[[int, int], nn.Module] = {8: eight_bits, 4: four_bits}[bits]
    torch.manual_seed(0)
    body = nn.Sequential(build(64, 48), nn.Tanh(), build(48, 32)).to("cpu")  # the move quantises
    dense = nn.Sequential(nn.Linear(64, 48, bias=False), nn.Tanh(), nn.Linear(48, 32, bias=False))
    with torch.no_grad():
        for i in (0, 2):
            dense[i].weight.copy_(body[i](torch.eye(dense[i].in_features)).T)
    reference = adapt(dense, ["0", "2"])
    setattr(body, f"is_loaded_in_{bits}bit", True)  # as transformers marks it, for PEFT to choose its layer
    quantised = peft.get_peft_model(body, peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"]))
    for pair, plain in zip(find_pairs(quantised), find_pairs(reference), strict=True):
        assert type(pair.layer).__name__ == {8: "Linear8bitLt", 4: "Linear4bit"}[bits]
        pair.A.data, pair.B.data = plain.A.data.clone(), plain.B.data.clone()
    return quantised, reference


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("method", METHODS)
def test_bitsandbytes_base(method: str, bits: int) -> None:
    quantised, reference = quantised_and_dense(bits)
    x = torch.randn(6, 64)
    weights = thaw(find_pairs(reference))
    loss_of(reference, x).backward()
    with GradientCapture(find_pairs(quantised), method=method, probes=20_000) as capture:
        loss_of(quantised, x).backward()
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=1e-4 if method == "exact" else 0.03, atol=0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rule", ["adaptive", "sharp", "majorizer"])
def test_rules_step_alike_on_a_bitsandbytes_base(rule: str, bits: int) -> None:
    options = {} if rule == "adaptive" else {"smoothness": 5.0}
    x, sizes = torch.randn(6, 64), []
    for model in quantised_and_dense(bits):
        optimizer = lorate.create_optimizer(model, rule, gradient_norm="exact", **options)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        assert optimizer.last.skipped is None
        sizes.append(optimizer.last.sum_eta)
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)


class Int8Linear(nn.Module):
    """What an 8-bit layer of bitsandbytes is, where that is not installed: integer codes, one scale a row."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = dense.in_features, dense.out_features
        self.register_buffer("SCB", dense.weight.detach().abs().amax(1) / 127)
        codes = (dense.weight.detach() / self.SCB[:, None]).round().to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.bias = None

    def dequantize(self) -> Tensor:
        return self.weight * self.SCB[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return _MatMul8bit.apply(x, self)


class _MatMul8bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Int8Linear) -> Tensor:
        ctx.layer = layer
        return x @ layer.dequantize().T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dequantize(), None


@pytest.mark.filterwarnings("ignore:Unsupported layer type.*Int8Linear")
@pytest.mark.parametrize("method", METHODS)
def test_integer_codes(method: str) -> None:
    """Equal to the same model with the dequantised weight in a plain linear layer."""
    torch.manual_seed(0)
    first, second = Int8Linear(nn.Linear(5, 7)), Int8Linear(nn.Linear(7, 4))
    dense = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 4, bias=False))
    dense[0].weight.data, dense[2].weight.data = first.dequantize(), second.dequantize()
    x = torch.randn(6, 5)

    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"])
    config._register_custom_module({Int8Linear: peft.tuners.lora.layer.Linear})
    quantised = peft.get_peft_model(nn.Sequential(first, nn.Tanh(), second), config)
    reference = adapt(dense, ["0", "2"])
    for pair, plain in zip(find_pairs(quantised), find_pairs(reference), strict=True):
        pair.A.data, pair.B.data = plain.A.data, plain.B.data
    weights = thaw(find_pairs(reference))
    loss_of(reference, x).backward()
    with GradientCapture(find_pairs(quantised), method=method, probes=20_000) as capture:
        loss_of(quantised, x).backward()
    torch.testing.assert_close(capture.norms(), norms_of(weights), rtol=1e-5 if method == "exact" else 0.03, atol=0)
