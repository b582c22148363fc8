"""Is the device that was asked for there?"""

import torch

from lorate.errors import LorateError


def check_device(name: str) -> torch.device:
    """Turn ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"`` into a device that this machine has.

    Raises:
        LorateError: the name is not a device, or the machine has none of that kind.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LorateError(f"Unknown device {name!r}: expected cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cpu":
        return device
    backend = getattr(torch, device.type, None)
    if backend is None or not hasattr(backend, "is_available") or not backend.is_available():
        raise LorateError(f"The device {name!r} was requested, but this machine has none: use --device cpu.")
    count = backend.device_count()
    if device.index is not None and device.index >= count:
        raise LorateError(f"The device {name!r} was requested, but this machine has {count} of that kind.")
    return device
