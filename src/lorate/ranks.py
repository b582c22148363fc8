"""What the processes of one run have to agree on.

Data-parallel training runs one process per device, and each (a rank) sees its own part of the batch. All ranks take the
same steps because they compute them from the same numbers; here is where these become the same. With one process all
of it gives back what it was given. Every rank has to call these functions, in the same order.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lorate.errors import LorateError


def started() -> bool:
    """Whether torch.distributed runs, perhaps with a single process."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if started() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if started() else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints, rank 0.

    >>> is_main(), world_size()
    (True, 1)
    """
    return rank() == 0


@torch.no_grad()
def mean(numbers: Tensor) -> Tensor:
    """The mean over the ranks in float64; a number that is NaN on one is NaN on all.

    >>> mean(torch.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    found = numbers.detach().to(torch.float64)
    if world_size() > 1:
        found = found.clone()
        dist.all_reduce(found)
        found /= world_size()
    return found


def total(counts: Sequence[int], device: torch.device) -> list[int]:
    """The sum over the ranks.

    Args:
        counts: numbers of this rank.
        device: where the ranks' messages are, that of the parameters.

    >>> total([3, 4], torch.device("cpu"))
    [3, 4]
    """
    if world_size() == 1:
        return list(counts)
    message = torch.tensor(counts, dtype=torch.int64, device=device)
    dist.all_reduce(message)
    return [int(count) for count in message.tolist()]


def everyones(value: Any) -> list[Any]:
    """The value of each rank, in their order; anything that pickles.

    >>> everyones("a")
    ['a']
    """
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


@torch.no_grad()
def average_in_place(sums: Sequence[Tensor], *, at_once: bool, group: dist.ProcessGroup | None = None) -> None:
    """Replace each tensor by its mean over the ranks.

    Args:
        sums: tensors of the same shapes, in the same order, on every rank.
        at_once: send one message for all, which copies them; else one for each.
        group: the ranks to average over; all of them if not given.

    Raises:
        LorateError: torch.distributed was not started.
    """
    if not started():
        raise LorateError("expected torch.distributed to be initialised before averaging over ranks")
    world = dist.get_world_size(group)
    for batch in [sums] if at_once else [[one] for one in sums]:
        message = torch.cat([one.flatten().to(batch[0]) for one in batch])
        dist.all_reduce(message, group=group)
        pieces = message.div_(world).split([one.numel() for one in batch])  # type: ignore[no-untyped-call]
        for one, piece in zip(batch, pieces, strict=True):
            one.copy_(piece.view_as(one))
