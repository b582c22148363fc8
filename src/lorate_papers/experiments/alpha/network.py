"""A perceptron of five layers that is to become another one: its weights plus a matrix of low rank in each layer."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate_papers.workloads import Batch
from lorate_papers.workloads.tensor_workload import TensorWorkload

LAYERS, WIDTH, CHANGE_RANK = 5, 64, 4
EXAMPLES, HELD_OUT = 2048, 512


def load(seed: int = 0) -> TensorWorkload:
    """The workload: Gaussian inputs, and what the network that is to be learned makes of them.

    The loss is the squared error over the mean square of the outputs.

    Args:
        seed: of the weights, the change and the inputs.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    start = [normal(WIDTH, WIDTH) * math.sqrt(2 / WIDTH) for _ in range(LAYERS)]
    factors = [(normal(WIDTH, CHANGE_RANK), normal(CHANGE_RANK, WIDTH)) for _ in range(LAYERS)]
    end = [W + left @ right / (WIDTH * math.sqrt(CHANGE_RANK)) for W, (left, right) in zip(start, factors, strict=True)]
    inputs = normal(EXAMPLES + HELD_OUT, WIDTH)
    with torch.no_grad():
        outputs = perceptron(end)(inputs)
    return TensorWorkload(
        name="network",
        template=perceptron(start),
        targets=tuple(str(2 * layer) for layer in range(LAYERS)),
        train={"inputs": inputs[HELD_OUT:], "outputs": outputs[HELD_OUT:]},
        held_out={"inputs": inputs[:HELD_OUT], "outputs": outputs[:HELD_OUT]},
        batch_loss=partial(_relative_error, float(outputs.square().mean())),
        chunk=HELD_OUT,
    )


def perceptron(weights: list[Tensor]) -> nn.Sequential:
    """Linear layers without bias, ReLU in between."""
    modules: list[nn.Module] = []
    for weight in weights:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight.clone())
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _relative_error(mean_square: float, model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch["inputs"]), batch["outputs"]) / mean_square
