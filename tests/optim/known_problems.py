"""Full-batch problems whose smoothness is known: least squares and logistic regression through PEFT."""

from collections.abc import Callable

import peft
import torch
from torch import Tensor, nn

from lorate.smoothness import least_squares_smoothness, logistic_smoothness

FEATURES, CLASSES, EXAMPLES = 7, 5, 40
Loss = Callable[[nn.Module], Tensor]


class Parts(nn.Module):
    """Scores from the two halves of the input, so that two layers are adapted and L is joint in both."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.left = nn.Linear(3, CLASSES, bias=False)
        self.right = nn.Linear(FEATURES - 3, CLASSES, bias=False)
        self.shift = nn.Linear(1, CLASSES, bias=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        scores = self.left(x[:, :3]) + self.right(x[:, 3:])
        return scores if self.shift is None else scores + self.shift(torch.ones_like(x[:, :1]))


def problem(
    kind: str,
    *,
    seed: int = 0,
    alpha: float = 3.0,
    rank: int = 3,
    bias: bool = False,
    dtype: torch.dtype = torch.float64,
) -> tuple[nn.Module, Loss, float]:
    """Model, loss and L; ``bias`` adds parameters that are trained whole."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(EXAMPLES, FEATURES, generator=generator, dtype=torch.float64) * torch.logspace(-1, 0.5, FEATURES)
    torch.manual_seed(seed)
    base = Parts(bias).to(dtype)
    config = peft.LoraConfig(
        r=3, lora_alpha=alpha, target_modules=["left", "right"], modules_to_save=["shift"] if bias else None
    )
    model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    inputs = x.to(dtype)
    if kind == "logistic":
        labels = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
        return model, lambda m: nn.functional.cross_entropy(m(inputs), labels), logistic_smoothness(x, bias=bias)
    target = torch.randn(EXAMPLES, CLASSES, generator=generator, dtype=torch.float64).to(dtype)
    return model, lambda m: (m(inputs) - target).square().sum() / (2 * EXAMPLES), least_squares_smoothness(x, bias=bias)


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    return closure


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
