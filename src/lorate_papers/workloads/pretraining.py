"""Train a small base model from nothing, the way base models are trained: AdamW, warm-up, cosine decay."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorate.extras import require
from lorate_papers.workloads.tensor_workload import own_loss
from lorate_papers.workloads.workload import Batch


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, on how much."""

    steps: int  # of AdamW
    batch: int  # examples in a step
    lr: float  # the highest learning rate, reached after a twentieth of the steps
    weight_decay: float = 0.05  # of AdamW
    seed: int = 0  # of the start and of the order of the data


def pretrain(
    model: nn.Module,  # starts as it is
    batches: Iterator[Batch],  # at least as many as steps, with labels
    schedule: Schedule,  # steps and learning rate
    what: str,  # is trained, in a few words, for the progress bar
    batch_loss: Callable[[nn.Module, Batch], Tensor] = own_loss,  # mean loss of the model on a batch
) -> None:
    """Train all weights of a model in place, clipping gradients at norm 1."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    warm = max(1, schedule.steps // 20)

    def multiplier(step: int) -> float:
        after = max(0, step - warm) / max(1, schedule.steps - warm)
        return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * after))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    model.train()
    bar: Any = require("tqdm", extra="hf").tqdm(range(schedule.steps), what, mininterval=1.0)  # transformers brings it
    for _ in bar:
        optimizer.zero_grad()
        loss = batch_loss(model, next(batches))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        bar.set_postfix_str(f"loss {float(loss.detach()):.3f}", refresh=False)
