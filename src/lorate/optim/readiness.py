"""Whether a step can do anything: parameters that are trained, gradients, a multiplier that is a number."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.optim.layout import Slot


def make_ready(slots: Sequence[Slot], loss: Tensor | float | None, *, is_first: bool) -> None:
    """Replace sparse gradients, those of ``nn.Embedding(sparse=True)``, and look whether a step can do anything.

    Raises:
        LorateError: all parameters are frozen, the first step finds no gradient though its loss is finite, or ``lr`` is
            not a finite number >= 0.
    """
    if not any(slot.parameter.requires_grad for slot in slots):
        raise LorateError(
            "every parameter of this optimizer is frozen by now, as set_adapter or load_adapter does to the adapters "
            "before; build an optimizer for those that are trained with lorate.create_optimizer(model)"
        )
    has_none = is_first and all(slot.gradient is None for slot in slots)
    if has_none and torch.as_tensor(0.0 if loss is None else loss).isfinite().all():
        raise LorateError(
            "no parameter of this optimizer has a gradient: call loss.backward() before step(), with a loss of the "
            "model that the optimizer was built for"
        )
    for slot in slots:
        _ = slot.multiplier  # refuses an lr that is no such number, before gradients are touched
        if slot.gradient is not None and slot.gradient.layout is not torch.strided:
            slot.parameter.grad = slot.gradient.to_dense()
