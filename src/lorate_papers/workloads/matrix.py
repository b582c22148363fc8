r"""``matrix``: least squares $\frac1{2N}\sum_i\|Wx_i - y_i\|^2$ whose solution is $W_0$ plus a matrix of low rank.

$y_i = (W_0 + \Delta)x_i + \varepsilon_i$ with Gaussian $x_i$ and noise, and $\Delta$ of rank `RANK`: the least that a
LoRA adapter can be asked to learn.
"""

import torch
from torch import Tensor, nn

from lorate.smoothness import least_squares_smoothness
from lorate_papers.workloads.logistic import LinearMap
from lorate_papers.workloads.tensor_workload import TensorWorkload
from lorate_papers.workloads.workload import Batch, refuse_others

RANK = 4
NOISE = 0.1
"""Standard deviation of the noise on each output; the outputs themselves have one of about 1.4."""


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Half the squared length of the error, mean over the examples."""
    error: Tensor = model(batch["inputs"]) - batch["outputs"]
    return 0.5 * error.square().sum(-1).mean()


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload, from synthetic data that are the same each time.

    Args:
        quick: 20 inputs and 16 outputs instead of 60 and 40, and fewer examples.
        data: must be left out.
        model: must be left out.

    Raises:
        LorateError: data or model was given.
    """
    refuse_others("matrix", data, model)
    inputs, outputs, count, held_out = (20, 16, 200, 100) if quick else (60, 40, 2000, 500)
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    start = normal(outputs, inputs) / inputs**0.5
    change = normal(outputs, RANK) @ normal(RANK, inputs) / (RANK * inputs) ** 0.5
    x = normal(held_out + count, inputs)
    y = x @ (start + change).T + NOISE * normal(held_out + count, outputs)
    train = {"inputs": x[held_out:], "outputs": y[held_out:]}
    return TensorWorkload(
        name="matrix",
        template=LinearMap(start),
        targets=("linear",),
        train=train,
        held_out={"inputs": x[:held_out], "outputs": y[:held_out]},
        batch_loss=squared_error,
        smoothness=least_squares_smoothness(train["inputs"]),
        chunk=held_out,
    )
