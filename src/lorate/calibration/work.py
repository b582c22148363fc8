"""One run of a sweep, from plain values to plain values."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from lorate.calibration.own_task import OwnTask
from lorate.calibration.plan import own_config
from lorate.geometry import squared_norms
from lorate.sweep import Divergence


def train_point(
    own: Mapping[str, Any], rank: int, alpha: float, lr: float, steps: int, batch_size: int, seed: int
) -> dict[str, Any]:
    """Train adapters under AdamW and measure the held-out loss.

    Args:
        own: options that say which model and data.
        rank: r.
        alpha: ``lora_alpha``.
        lr: learning rate.
        steps: at most; a run that diverges ends early.
        batch_size: samples a step.
        seed: of the adapters' start, the order of the data, and what is held out.

    Returns:
        ``loss``, None if the run diverged; ``first_loss`` of the first batch.
    """
    task = OwnTask(own_config(own, rank, alpha, batch_size, seed))
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    divergence, first = Divergence(), math.nan
    for step, batch in zip(range(steps), task.batches(), strict=False):
        optimizer.zero_grad()
        loss = task.model(**batch).loss
        loss.backward()
        value = float(loss.detach())
        first = value if step == 0 else first
        # gradients whose squares overflow stop AdamW, which would look like a run that is stable
        overflow = not squared_norms([p.grad for p in trained if p.grad is not None]).isfinite().all()
        if divergence.fault(value) or overflow:
            return {"loss": None, "first_loss": first}
        optimizer.step()
    held_out = task.validation_loss()
    return {"loss": held_out if math.isfinite(held_out) else None, "first_loss": first}
