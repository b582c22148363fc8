r"""What of a weight change over several steps is linear in the factors' movement, and what is bilinear.

From (A0, B0) at the start of a window to (A, B) at its end, with δA = A − A0 and δB = B − B0,

$$ s(BA - B_0A_0) = \underbrace{s(\delta B A_0 + B_0\,\delta A)}_{\text{signal}}
   + \underbrace{s\,\delta B\,\delta A}_{\text{drift}} . $$

These are P and Q of `lorate.geometry` for a displacement that is the whole window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lorate.geometry import displacement_gram


@dataclass(frozen=True)
class SignalDrift:
    r"""Squared lengths of both parts, one value per layer.

    Attributes:
        signal_sq: $\|s(\delta B A_0 + B_0\,\delta A)\|_F^2$, shape ``[layers]``.
        drift_sq: $\|s\,\delta B\,\delta A\|_F^2$, shape ``[layers]``.
    """

    signal_sq: Tensor
    drift_sq: Tensor

    @property
    def ratio(self) -> float:
        """Drift over signal, both over all layers; NaN where nothing has moved, infinite from A0 = B0 = 0."""
        return float((self.drift_sq.sum() / self.signal_sq.sum()).sqrt())


def signal_and_drift(
    A0: Sequence[Tensor], B0: Sequence[Tensor], A: Sequence[Tensor], B: Sequence[Tensor], scaling: Sequence[float]
) -> SignalDrift:
    """Split the weight change of a window, from r×r Gram matrices: no m×n matrix is formed.

    Args:
        A0: first factors at the window's start, each ``[groups, r, n]`` (see `lorate.adapters.factor_blocks`).
        B0: second factors, each ``[groups, m, r]``.
        A: first factors at its end, same shapes.
        B: second factors at its end.
        scaling: s of each layer.

    Returns:
        Values on the factors' device; differences are taken in float32 at least.

    Source: the definitions are ours, after the idea of arXiv 2606.12883, whose own may differ; docs/alpha.md.

    >>> import torch
    >>> zero, one = torch.zeros(1, 2, 2), torch.eye(2)[None]
    >>> split = signal_and_drift([one], [zero], [3 * one], [one], [2.0])  # 2·(1·1) and 2·(1·2) on the diagonal
    >>> split.signal_sq.tolist(), split.drift_sq.tolist(), split.ratio
    ([8.0], [32.0], 2.0)
    """
    moved_A = [_difference(end, start) for end, start in zip(A, A0, strict=True)]
    moved_B = [_difference(end, start) for end, start in zip(B, B0, strict=True)]
    gram = displacement_gram(A0, B0, moved_A, moved_B, scaling)
    # the sums of products can round to slightly below zero
    return SignalDrift(gram.pp.clamp(min=0), gram.qq.clamp(min=0))


def _difference(end: Tensor, start: Tensor) -> Tensor:
    if end.element_size() < 4:
        return end.float() - start.float()
    return end - start
