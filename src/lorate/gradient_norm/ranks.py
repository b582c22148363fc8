"""Average sums over the ranks of data-parallel training."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from lorate.errors import LorateError


@torch.no_grad()
def average_over_ranks(sums: Sequence[Tensor], *, at_once: bool, group: dist.ProcessGroup | None = None) -> None:
    """Replace each tensor by its mean over the ranks, in place; call it on all of them.

    Args:
        sums: tensors of the same shapes, in the same order, on every rank.
        at_once: send one message for all, which copies them; else one for each.
        group: the ranks to average over; all of them if not given.

    Raises:
        LorateError: torch.distributed was not started.
    """
    if not dist.is_initialized():
        raise LorateError("expected torch.distributed to be initialised before averaging over ranks")
    world = dist.get_world_size(group)
    for batch in [sums] if at_once else [[one] for one in sums]:
        message = torch.cat([one.flatten().to(batch[0]) for one in batch])
        dist.all_reduce(message, group=group)
        pieces = message.div_(world).split([one.numel() for one in batch])  # type: ignore[no-untyped-call]
        for one, piece in zip(batch, pieces, strict=True):
            one.copy_(piece.view_as(one))
