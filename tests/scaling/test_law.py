"""The square-root law, in both of PEFT's forms."""

import math

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lorate
from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.scaling import lora_config


@given(st.integers(1, 4096), st.floats(1e-3, 1e6))
def test_both_forms_have_the_scale_c_over_root_r(r: int, c: float) -> None:
    assert lorate.lora_alpha(r, c) / r == pytest.approx(c / math.sqrt(r))
    assert lorate.lora_alpha(r, c, use_rslora=True) / math.sqrt(r) == pytest.approx(c / math.sqrt(r))


@pytest.mark.parametrize("r", [0, -4, 2.0, True, "8", 10**400])
def test_a_rank_that_is_none(r: object) -> None:
    with pytest.raises(LorateError, match=r"rank r must be a whole number of at least 1, got"):
        lorate.lora_alpha(r)  # type: ignore[arg-type]


@pytest.mark.parametrize("c", [0, -1.0, math.inf, math.nan, "256", True, 10**400])
def test_a_coefficient_that_is_none(c: object) -> None:
    with pytest.raises(LorateError, match="coefficient c must be a finite number above 0"):
        lorate.lora_alpha(8, c)  # type: ignore[arg-type]


def scalings(config: peft.LoraConfig) -> list[float]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 10), nn.Linear(10, 9))
    return [pair.scaling for pair in find_pairs(peft.get_peft_model(network, config))]


@pytest.mark.parametrize("r", [1, 3, 8])
def test_the_model_is_scaled_alike_in_both_forms(r: int) -> None:
    options = {"target_modules": ["0", "1"], "rank_pattern": {"1": 5}}
    plain = scalings(lora_config(r, c=40, **options))
    rs = scalings(lora_config(r, c=40, use_rslora=True, **options))
    assert plain == pytest.approx([40 / math.sqrt(r), 40 / math.sqrt(5)])
    assert rs == pytest.approx(plain)


def test_a_layer_keeps_the_global_law_without_a_pattern() -> None:
    assert scalings(lora_config(4, target_modules=["0", "1"])) == [128.0, 128.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_alpha": 16}, "sets lora_alpha by the law"),
        ({"alpha_pattern": {"0": 3}}, "sets alpha_pattern by the law"),
        ({"use_dora": True}, "which DoRA rescales"),
    ],
)
def test_options_that_contradict_the_law(options: dict[str, object], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        lora_config(8, **options)
