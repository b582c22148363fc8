"""Finding LoRA pairs by structure."""

import math
import warnings

import peft
import pytest
import torch
from torch import nn

from lorate.adapters import factor_blocks, find_pairs, rest_parameters
from lorate.errors import LorateError
from peft_models import linear_model, mixed_model


def wrap(module: nn.Module, **options: object) -> peft.PeftModel:
    return peft.get_peft_model(module, peft.LoraConfig(**{"r": 2, "target_modules": ["0"], **options}))


def test_every_kind_is_found_by_structure() -> None:
    model = mixed_model(modules_to_save=["head"])
    pairs = {pair.name.rsplit(".", 1)[-1]: pair for pair in find_pairs(model)}
    assert {name: pair.kind for name, pair in pairs.items()} == {
        "embedding": "embedding",
        "convolution": "conv2d",
        "linear": "linear",
    }
    assert pairs["convolution"].groups == 2
    assert all(pair.scaling == 2.0 and pair.rank == 4 for pair in pairs.values())
    assert list(rest_parameters(model, list(pairs.values()))) == [
        "base_model.model.head.modules_to_save.default.weight",
        "base_model.model.head.modules_to_save.default.bias",
    ]


def test_blocks_multiply_to_what_peft_adds() -> None:
    model = mixed_model()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    for pair in find_pairs(model):
        A, B = factor_blocks(pair.A.detach(), pair.B.detach(), pair.groups)
        product = pair.scaling * (B @ A).flatten(0, 1)
        if pair.kind == "linear":
            torch.testing.assert_close(product, pair.layer.get_delta_weight("default"))
        elif pair.kind == "embedding":
            torch.testing.assert_close(product.T, pair.layer.get_delta_weight("default"))
        else:
            image = torch.randn(2, 4, 5, 5, dtype=torch.float64)
            base = pair.layer.base_layer
            added = pair.layer(image) - base(image)
            dense = nn.functional.conv2d(image, product.reshape(6, 4, 3, 3), padding=base.padding)
            torch.testing.assert_close(added, dense)


@pytest.mark.parametrize(("use_rslora", "expected"), [(False, 8 / 4), (True, 8 / 2)])
def test_scaling(use_rslora: bool, expected: float) -> None:
    assert find_pairs(mixed_model(use_rslora=use_rslora))[0].scaling == expected


def test_rank_and_alpha_patterns() -> None:
    model = wrap(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
        target_modules=["0", "1"],
        rank_pattern={"1": 3},
        alpha_pattern={"1": 12},
    )
    assert [(pair.rank, pair.scaling) for pair in find_pairs(model)] == [(2, 4.0), (3, 4.0)]


def test_only_the_active_adapter_counts() -> None:
    model = linear_model()
    model.add_adapter("other", peft.LoraConfig(r=1, target_modules=["0"]))
    assert {pair.adapter for pair in find_pairs(model)} == {"default"}
    model.set_adapter("other")
    (pair,) = find_pairs(model)
    assert pair.adapter == "other" and pair.rank == 1
    with pytest.raises(LorateError, match="no LoRA layer holds the adapter 'none'; the model has: default, other"):
        find_pairs(model, "none")


def test_transformers_conv1d_is_linear() -> None:
    from transformers.pytorch_utils import Conv1D

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = wrap(nn.Sequential(Conv1D(5, 3)))
    (pair,) = find_pairs(model)
    assert pair.kind == "linear" and pair.B.shape[0] == 5


def test_dora_and_bias_are_recognised() -> None:
    model = wrap(nn.Sequential(nn.Linear(4, 4)), use_dora=True)
    (pair,) = find_pairs(model)
    assert pair.dora
    assert ["magnitude" in name for name in rest_parameters(model, [pair])] == [True]
    model = wrap(nn.Sequential(nn.Linear(4, 4)), lora_bias=True)
    (pair,) = find_pairs(model)
    assert not pair.dora
    assert ["lora_B" in name for name in rest_parameters(model, [pair])] == [True]


def test_model_without_adapters() -> None:
    with pytest.raises(LorateError, match="no LoRA layers; wrap it first"):
        find_pairs(nn.Linear(2, 2))


def test_frozen_adapters() -> None:
    model = linear_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_A" not in name and parameter.requires_grad)
    with pytest.raises(LorateError, match=r"2 of 2 LoRA pairs are frozen, first .*0 \(A\)"):
        find_pairs(model)


def test_merged_and_disabled_adapters() -> None:
    model = linear_model()
    model.merge_adapter()
    with pytest.raises(LorateError, match="merged into"):
        find_pairs(model)
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(LorateError, match="switched off"):
        find_pairs(model)


def test_other_layers_are_refused_by_name() -> None:
    with pytest.raises(LorateError, match=r"0: LoRA on Conv1d is not supported"):
        find_pairs(wrap(nn.Sequential(nn.Conv1d(2, 2, 1))))
    with pytest.raises(LorateError, match="LoRA on Conv3d is not supported"):
        find_pairs(wrap(nn.Sequential(nn.Conv3d(2, 2, 1))))
    with pytest.raises(LorateError, match="LoRA on MultiheadAttention is not supported"):
        find_pairs(wrap(nn.Sequential(nn.MultiheadAttention(4, 2))))
    with pytest.raises(LorateError, match="LoRA on ParamWrapper is not supported"):
        find_pairs(wrap(nn.Sequential(nn.Linear(4, 4)), target_modules=[], target_parameters=["0.weight"]))


def test_other_variants_are_refused_by_name() -> None:
    model = wrap(nn.Sequential(nn.Linear(4, 4)), velora_config=peft.tuners.lora.config.VeloraConfig())
    with pytest.raises(LorateError, match="0 is a VeloraLinearVariant layer"):
        find_pairs(model)


def test_tied_adapters_are_refused() -> None:
    model = linear_model()
    first, second = find_pairs(model)
    second.A.data = first.A.data
    with pytest.raises(LorateError, match="share their numbers"):
        find_pairs(model)


def test_compiled_model_has_plain_names() -> None:
    model = linear_model()
    names = [pair.name for pair in find_pairs(model)]
    assert [pair.name for pair in find_pairs(torch.compile(model))] == names


class Shifted(nn.Module):
    """A head that holds a module called "module" beside parameters of the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(4, 3)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x) + self.bias


def test_no_trained_parameter_is_lost_to_a_module_called_module() -> None:
    model = wrap(nn.Sequential(nn.Linear(4, 4), Shifted()), modules_to_save=["1"])
    pairs = find_pairs(model)
    expected = [name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name]
    assert len(expected) == 3
    assert list(rest_parameters(model, pairs)) == expected
    # without PEFT's outer modules the name looks like DDP's
    bare = Shifted()
    bare.adapted = model.base_model.model[0]
    assert len(rest_parameters(bare, find_pairs(bare))) == 3


@pytest.mark.parametrize("alpha", [0, -8, math.inf])
def test_a_scaling_that_is_no_positive_number_is_refused(alpha: float) -> None:
    with pytest.raises(LorateError, match=r"base_model.model.0 .*scaling .*must be a finite number above 0"):
        find_pairs(wrap(nn.Sequential(nn.Linear(4, 3)), lora_alpha=alpha))
