r"""Random sketch of ``G = dY^T X``: ``S = G Z`` with random signs Z estimates ``||G||_F`` from k columns."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from lorate.gradient_norm.norms import accumulation_dtype


def rademacher(in_dim: int, probes: int, seed: int, name: str = "") -> Tensor:
    """Draw the sketch's random signs.

    Args:
        in_dim: d, rows of Z.
        probes: k, columns of Z.
        seed: any non-negative integer; the same one on all ranks and micro-batches of a step.
        name: the layer's name; each layer has signs of its own.

    Returns:
        Z, ``[d, k]``, float32 entries -1 and +1, on the CPU. Drawn there on every machine, so that the same seed
        gives the same signs on every device.

    >>> rademacher(2, 3, seed=0).abs().sum()
    tensor(6.)
    """
    state = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
    bits = torch.randint(0, 2, (in_dim, probes), generator=generator, dtype=torch.int8)
    return bits.to(torch.float32).mul_(2).sub_(1)


class SketchSum:
    """The sum of sketches ``dY_i^T (X_i Z)`` over backward passes and ranks: linear in G, all with the same Z.

    Args:
        out_dim: columns of dY.
        in_dim: columns of X.
        probes: k, columns of Z.
        name: of the layer, for messages.
    """

    def __init__(self, out_dim: int, in_dim: int, probes: int, name: str) -> None:
        self.out_dim = out_dim
        self.in_dim = in_dim
        self.probes = probes
        self.name = name
        self._signs: Tensor | None = None
        self._signs_seed: int | None = None
        self._sum: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no pass was added."""
        return self._sum is None

    def signs(self, seed: int, like: Tensor) -> Tensor:
        """Z for this seed on the device of ``like`` and in its accumulation dtype, kept between calls."""
        dtype = accumulation_dtype(like.dtype)
        if self._signs is None or self._signs_seed != seed:
            self._signs, self._signs_seed = rademacher(self.in_dim, self.probes, seed, self.name), seed
        self._signs = self._signs.to(like.device, dtype)
        return self._signs

    def add(self, dY: Tensor, XZ: Tensor) -> None:
        """Add one pass, with dY ``[N, p]`` and the projected inputs ``[N, k]``."""
        self.matrix(like=XZ).addmm_(XZ.T, dY.to(XZ.dtype))

    def matrix(self, like: Tensor) -> Tensor:
        """S transposed, ``[k, p]``: its product reads dY row by row. Zero on ``like``'s device if empty."""
        if self._sum is None:
            dtype = accumulation_dtype(like.dtype)
            self._sum = torch.zeros(self.probes, self.out_dim, dtype=dtype, device=like.device)
        return self._sum

    def norm(self) -> Tensor:
        """Estimate of ``||G||_F``: the root of ``||S||_F^2 / k``, a scalar.

        The square is unbiased, with relative standard deviation at most ``sqrt(2 / k)``. The estimate can lie below
        the truth: it may steer a step size, it cannot certify one.

        Source: Girard 1989 and Hutchinson 1990, for the trace of G^T G.
        """
        assert self._sum is not None
        norm: Tensor = torch.linalg.vector_norm(self._sum)
        return norm / math.sqrt(self.probes)

    def inner_product(self, D_A: Tensor, D_B: Tensor) -> Tensor:
        r"""Unbiased: $\langle S, D_B D_A Z\rangle / k$ of $\langle G, D_B D_A\rangle$; blocks as in `MatrixSum`."""
        assert self._sum is not None and self._signs is not None
        image = D_B @ (D_A @ self._signs.to(D_A.dtype))
        return (image.reshape(self.out_dim, self.probes) * self._sum.T).sum() / self.probes

    def clear(self) -> None:
        """Forget the sum; the signs stay."""
        self._sum = None
