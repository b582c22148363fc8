r"""``logistic``: multinomial logistic regression on handwritten digits, $W_0 = 0$, no bias: a convex loss in $W$.

Each example is one row of pixels; $L = \tfrac12\lambda_{\max}(X^TX/N)$ is known in closed form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate.errors import LorateError
from lorate.smoothness import logistic_smoothness
from lorate_papers.workloads.digits import digits
from lorate_papers.workloads.tensor_workload import TensorWorkload
from lorate_papers.workloads.workload import Batch, refuse_others


class LinearMap(nn.Module):
    """One weight matrix without a bias, ``scores = inputs @ W.T``."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.linear.weight = nn.Parameter(weight.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """The products, shape ``[examples, outputs]``."""
        scores: Tensor = self.linear(inputs)
        return scores


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over the examples."""
    return F.cross_entropy(model(batch["inputs"]), batch["labels"])


def load(
    *, quick: bool = False, data: str | None = None, model: str | None = None, held_out: float = 0.2
) -> TensorWorkload:
    """The workload.

    Args:
        quick: 300 of the 1,797 digits.
        data: must be left out.
        model: must be left out.
        held_out: part of the images to hold out; 0 trains on all of them, and they are the held-out set too.

    Raises:
        LorateError: data or model was given, the part is not in [0, 1), or scikit-learn is not installed.
    """
    refuse_others("logistic", data, model)
    if not 0 <= held_out < 1:
        raise LorateError(f"The part held out must be at least 0 and less than 1, but it is {held_out}.")
    pixels, labels = digits()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[: 300 if quick else None]
    return regression("logistic", pixels[order], labels[order], held_out)


def regression(name: str, inputs: Tensor, labels: Tensor, held_out: float) -> TensorWorkload:
    """Logistic regression from zero on some rows, whose smoothness is known.

    Args:
        name: of the workload.
        inputs: one example a row, in the order in which they are to be used.
        labels: classes from 0.
        held_out: see `load`.
    """
    first = round(held_out * len(inputs))
    train = {"inputs": inputs[first:], "labels": labels[first:]}
    return TensorWorkload(
        name=name,
        template=LinearMap(torch.zeros(int(labels.max()) + 1, inputs.shape[1])),
        targets=("linear",),
        train=train,
        held_out={"inputs": inputs[:first], "labels": labels[:first]} if first else train,
        batch_loss=cross_entropy,
        smoothness=logistic_smoothness(train["inputs"]),
        chunk=len(inputs),
    )
