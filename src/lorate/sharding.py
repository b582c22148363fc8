"""Tensors of which each rank holds a part: torch's DTensor, which ``fully_shard`` makes of every parameter.

Numbers are computed from the whole tensors, the same on all ranks; steps are taken by each rank on its own part.
Sharded tensors are recognised by what they have, so nothing of torch's sharding is imported.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lorate import ranks
from lorate.errors import LorateError


def is_sharded(tensor: Tensor) -> bool:
    """Whether each rank holds a part of the tensor only."""
    return hasattr(tensor, "full_tensor")


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's part of each tensor, in the same memory; call it without gradients."""
    if not ranks.started():
        return list(tensors)
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]  # type: ignore[attr-defined]


@torch.no_grad()
def whole(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each tensor with the parts of all ranks; those cut along their first side travel in one message."""
    result = list(tensors)
    if not ranks.started():
        return result
    together: dict[tuple[Any, torch.dtype], list[int]] = defaultdict(list)
    for i, tensor in enumerate(result):
        if not is_sharded(tensor):
            continue
        mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
        if mesh.ndim == 1 and placements[0].is_shard(dim=0):
            together[mesh, tensor.dtype].append(i)
        else:
            result[i] = tensor.full_tensor()  # type: ignore[attr-defined]
    for (mesh, _), places in together.items():
        for i, gathered in zip(places, _gathered([result[i] for i in places], mesh), strict=True):
            result[i] = gathered
    return result


def _gathered(sharded: Sequence[Tensor], mesh: Any) -> list[Tensor]:
    """Put parts together that follow each other along the first side, all as long as the first except the last ones."""
    count = mesh.size()
    shares = [_share(tensor, count) for tensor in sharded]
    parts = local(sharded)
    own = parts[0].new_zeros(sum(shares))
    for part, room in zip(parts, own.split(shares), strict=True):  # type: ignore[no-untyped-call]
        room[: part.numel()] = part.reshape(-1)
    message = own.new_empty(count * len(own))
    dist.all_gather_into_tensor(message, own, group=mesh.get_group())
    columns = message.view(count, -1).split(shares, dim=1)  # type: ignore[no-untyped-call]
    return [
        column.reshape(-1)[: tensor.numel()].view(tensor.shape) for column, tensor in zip(columns, sharded, strict=True)
    ]


def _share(tensor: Tensor, count: int) -> int:
    """Numbers that the first rank holds, the most of all."""
    rows = tensor.shape[0]
    return -(-rows // count) * (tensor.numel() // rows)


def followed(copies: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor] | None:
    """Fresh copies, sharded as the parameters are, if these were sharded since; None if there is nothing to do."""
    if all(_placements(copy) == _placements(p) for copy, p in zip(copies, parameters, strict=True)):
        return None
    return [p.detach().to(copy.dtype, copy=True) for copy, p in zip(copies, parameters, strict=True)]


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on all ranks, in parts as the parameter is; no message is sent."""
    if not is_sharded(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.contiguous(), mesh, placements, src_data_rank=None)


def _placements(tensor: Tensor) -> Any:
    return getattr(tensor, "placements", None)


def refuse_unreadable(model: nn.Module) -> None:
    """Say which kinds of sharding hide the parameters from an optimizer that must see A and B.

    Raises:
        LorateError: the model is under DeepSpeed ZeRO-3, or under torch's first FSDP.
    """
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id"):
            raise LorateError(
                f"DeepSpeed ZeRO-3 has partitioned {name}, so that no rule can measure it; train data-parallel "
                "(DDP), or with FSDP2 (torch's fully_shard; fsdp_version: 2 in accelerate)"
            )
    if any(cls.__name__ == "FullyShardedDataParallel" for module in model.modules() for cls in type(module).__mro__):
        raise LorateError(
            "FullyShardedDataParallel flattens A and B into one tensor; use FSDP2 (torch's fully_shard; "
            "fsdp_version: 2 in accelerate)"
        )


def reshard(model: nn.Module) -> None:
    """Let the model's next forward pass see parameters that were moved.

    After a pass without gradients ``fully_shard`` keeps the outermost parameters whole, and would go on to use these.
    """
    if ranks.started():
        for module in model.modules():
            if hasattr(module, "reshard"):
                module.reshard()  # type: ignore[operator]
