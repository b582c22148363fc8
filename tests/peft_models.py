"""Small PEFT models that many tests share."""

import peft
import pytest
import torch
from torch import nn


class Mixed(nn.Module):
    """One layer of each supported kind: Embedding, grouped Conv2d, Linear, and a head that is trained whole."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.convolution = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.linear = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        images = self.embedding(tokens).reshape(len(tokens), 4, 2, 2, -1).mean(-1)
        return self.head(torch.tanh(self.linear(self.convolution(images).mean((-1, -2)))))


def mixed_model(dtype: torch.dtype = torch.float64, **options: object) -> peft.PeftModel:
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["embedding", "convolution", "linear"]}
    with pytest.warns(UserWarning, match="groups > 1"):
        model = peft.get_peft_model(
            Mixed().to(dtype), peft.LoraConfig(**{**config, **options}), autocast_adapter_dtype=False
        )
    return model


def linear_model(dtype: torch.dtype = torch.float64, layers: int = 2, **options: object) -> peft.PeftModel:
    """A small multi-layer perceptron with LoRA on every layer and B started away from zero."""
    torch.manual_seed(0)  # two models built alike are equal
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(6, 6), nn.Tanh()]
    config = {"r": 3, "lora_alpha": 6, "target_modules": [str(2 * i) for i in range(layers)]}
    model = peft.get_peft_model(
        nn.Sequential(*modules).to(dtype), peft.LoraConfig(**{**config, **options}), autocast_adapter_dtype=False
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model
