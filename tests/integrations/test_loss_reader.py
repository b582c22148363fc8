"""The training loss, read where it is differentiated."""

import torch
from torch import Tensor, nn

import lorate
from lorate.integrations.loss_reader import LossReader
from peft_models import linear_model


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = linear_model()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": self.inner(x).square().mean()}


def test_loss_scale_and_micro_batches_are_taken_out() -> None:
    """Two micro-batches, each halved and multiplied by the scale of float16 training."""
    model = WithLoss()
    optimizer = lorate.create_optimizer(model, "normalized")
    reader = LossReader(model, optimizer)
    reader.loss_scale = lambda: 1024.0
    batches = torch.randn(2, 5, 6, dtype=torch.float64)
    losses = [model(x)["loss"] for x in batches]
    for loss in losses:
        (loss / 2 * 1024).backward()
    optimizer.step()
    assert optimizer.last is not None
    torch.testing.assert_close(optimizer.last.measurement.loss, sum(loss.item() for loss in losses) / 2)
    assert reader.take() == (10, 0)


def test_a_forward_without_gradients_is_not_counted() -> None:
    """Such as that of a trainer which looks at its samples in between, in training mode."""
    model = WithLoss()
    reader = LossReader(model, lorate.create_optimizer(model, "normalized"))
    with torch.no_grad():
        model(torch.ones(3, 6, dtype=torch.float64))
    assert reader.take() == (0, 0)


def test_samples_and_tokens_without_padding_are_counted() -> None:
    class Text(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return input_ids

    model = Text()
    model.inner = linear_model()
    reader = LossReader(model, lorate.create_optimizer(model, "normalized"))
    ids = torch.ones(2, 5, dtype=torch.int64)
    model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]))
    model(input_ids=ids)
    assert reader.take() == (4, 7 + 10)
    assert reader.take() == (0, 0)
    reader.remove()
    model(input_ids=ids)
    assert reader.take() == (0, 0)


def test_evaluation_is_not_counted() -> None:
    model = WithLoss().eval()
    optimizer = lorate.create_optimizer(model, "normalized")
    reader = LossReader(model, optimizer)
    model(torch.ones(3, 6, dtype=torch.float64))["loss"].backward()
    optimizer.step()
    assert optimizer.last is not None and optimizer.last.measurement.loss is None
    assert reader.take() == (0, 0)
