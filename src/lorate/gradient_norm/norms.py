"""The precision in which gradients are added up."""

import torch


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision in which gradients of this dtype are added up: float64 stays, everything else is float32.

    >>> accumulation_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.promote_types(dtype, torch.float32)
