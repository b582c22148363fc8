"""Small PEFT models with every kind of layer, and the gradients that autograd gives for their frozen weights."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch
from torch import Tensor, nn

from lorate.adapters import LoraPair, find_pairs
from lorate.gradient_norm import GradientCapture

Case = tuple[nn.Module, Tensor]


def adapt(module: nn.Module, targets: str | list[str], *, r: int = 2, dropout: float = 0.0, **options: Any) -> Any:
    """Wrap with LoRA whose factors are all away from zero."""
    config = peft.LoraConfig(r=r, lora_alpha=3, target_modules=targets, lora_dropout=dropout, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LoRA adapter added to ConvNd layer with groups > 1")
        model = peft.get_peft_model(module, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for pair in find_pairs(model):
            for factor in (pair.A, pair.B):
                factor.copy_(0.3 * torch.randn(factor.shape, generator=generator))
    return model


def thaw(pairs: Sequence[LoraPair]) -> list[Tensor]:
    """Let autograd differentiate the frozen weights."""
    weights = [pair.layer.base_layer.weight for pair in pairs]
    return [weight.requires_grad_(True) for weight in weights]


def norms_of(weights: Sequence[Tensor]) -> Tensor:
    return torch.stack([weight.grad.norm() for weight in weights])


def spectral_bounds(capture: GradientCapture) -> Tensor:
    """What the capture says of the spectral norms, after all doubts are settled."""
    capture.norms()
    return capture.numbers(bounds=True)["bound"]


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    """A loss whose gradient differs from row to row."""
    y = model(x)
    return (y.flatten(1).cumsum(1) / 5).sin().sum()


class Tied(nn.Module):
    """The same linear layer three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class ScaledEmbedding(nn.Embedding):
    """An embedding that multiplies its rows, as Gemma's does."""

    embed_scale = 2.5

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.embed_scale


def _linear() -> Case:
    torch.manual_seed(0)
    return adapt(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)), ["0", "2"]), torch.randn(6, 3, 5)


def _wide_linear() -> Case:
    """Few rows: the Gram road."""
    torch.manual_seed(0)
    return adapt(nn.Sequential(nn.Linear(40, 50), nn.Tanh(), nn.Linear(50, 30)), ["0", "2"]), torch.randn(8, 40)


def _dropout() -> Case:
    torch.manual_seed(0)
    model = adapt(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)), ["0", "2"], dropout=0.4)
    return model, torch.randn(6, 5)


def _conv(**options: Any) -> Callable[[], Case]:
    def build() -> Case:
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, (3, 2), **options), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
        return adapt(body, ["0", "2"]), torch.randn(2, 3, 7, 6)

    return build


def _embedding(table: type[nn.Embedding] = nn.Embedding, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        torch.manual_seed(0)
        model = adapt(nn.Sequential(table(9, 4, **options), nn.Linear(4, 3)), ["0", "1"])
        return model, torch.tensor([[1, 2, 2, 0, 5], [0, 0, 7, 1, 1], [3, 0, 2, 2, 8]])

    return build


def _tied() -> Case:
    torch.manual_seed(0)
    return adapt(Tied(), ["layer"]), torch.randn(5, 6)


CASES: dict[str, Callable[[], Case]] = {
    "linear": _linear,
    "linear-few-rows": _wide_linear,
    "linear-dropout": _dropout,
    "conv2d": _conv(),
    "conv2d-stride-padding": _conv(stride=(2, 1), padding=(1, 2)),
    "conv2d-same": _conv(padding="same"),  # of an even kernel: more on one side
    "embedding": _embedding(),
    "embedding-padding": _embedding(padding_idx=0),
    "embedding-scaled": _embedding(ScaledEmbedding, padding_idx=0),
    "tied": _tied,
}


def floating(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Inputs in the model's precision; token ids stay."""
    return x.to(dtype) if x.is_floating_point() else x
