"""Two trainable parameters over the same numbers, which PEFT's ``ensure_weight_tying`` makes of tied layers' factors.

PEFT gives the output layer's A and B as views of the input layer's B and A, transposed. Each gets the gradient of its
own use, and an optimizer that sees both moves the same numbers twice. Here one of the two, the owner, is trained, with
the sum of both gradients.
"""

import torch
from torch import nn

from lorate import ranks, sharding
from lorate.errors import LorateError


def join_twins(model: nn.Module) -> set[int]:
    """From now on the gradient of each twin is added to its owner's, in every backward pass.

    Returns:
        ``id`` of every twin: parameters that are not to be trained themselves.

    Raises:
        LorateError: two parameters share a part of their numbers only, or several processes train.
    """
    owners: dict[int, tuple[str, nn.Parameter]] = {}
    twins: set[int] = set()
    # the owner is the one whose numbers lie in the order of its shape
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for name, parameter in sorted(trained, key=lambda named: not named[1].is_contiguous()):
        address = sharding.local([parameter.detach()])[0].data_ptr()
        owner_name, owner = owners.setdefault(address, (name, parameter))
        if address and owner is not parameter:
            why = _obstacle(parameter, owner)
            if why:
                raise LorateError(f"{name} and {owner_name} share their numbers, {why} (leave ensure_weight_tying off)")
            _pass_on(parameter, owner)
            twins.add(id(parameter))
    return twins


def _obstacle(twin: nn.Parameter, owner: nn.Parameter) -> str:
    if ranks.world_size() > 1:
        return "whose gradients several processes would add up too early"
    if owner.numel() == twin.numel() and all(map(_is_whole, (owner, twin))):
        return ""
    return "but not all of them in one of two orders, which is not supported"


def _is_whole(parameter: nn.Parameter) -> bool:
    """Whether its numbers lie without gaps, in the order of its shape or turned."""
    return parameter.is_contiguous() or (parameter.ndim > 1 and parameter.mT.is_contiguous())


def _pass_on(twin: nn.Parameter, owner: nn.Parameter) -> None:
    @torch.no_grad()
    def add(_: torch.Tensor) -> None:
        if twin.grad is None:  # an earlier optimizer of the same model has done so
            return
        share = torch.empty_like(owner)
        share.as_strided(twin.shape, twin.stride()).copy_(twin.grad)
        owner.grad = share if owner.grad is None else share.add_(owner.grad)
        twin.grad = None

    twin.register_post_accumulate_grad_hook(add)  # type: ignore[no-untyped-call]
