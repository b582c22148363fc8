"""What one optimizer step knows: measured once, read by the rule, the monitor and the report."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    r"""Lengths at the current adapters, on the scale of the training loss.

    Layers stand in the order of the LoRA pairs. "The rest" are trainable parameters that are no LoRA factor; they
    count as a layer with s = 1 wherever gradients are added. Their own norm is left out of $\|V\|$: the loss is
    smooth in them as it stands, so no safe step depends on how large they are.

    Attributes:
        scaling: s of each layer, shape ``[layers]``.
        A_sq: $\|A_l\|_F^2$, shape ``[layers]``.
        B_sq: $\|B_l\|_F^2$, shape ``[layers]``.
        A_grad_sq: squared norm of the gradient of A, shape ``[layers]``.
        B_grad_sq: squared norm of the gradient of B, shape ``[layers]``.
        rest_grad_sq: squared gradient norm of the other trainable parameters, together.
        has_rest: whether there are other trainable parameters.
        loss: the training loss of this step, averaged over its micro-batches; None if nobody told.
        weight_grad_sq: $\|G_l\|_F^2$ of the frozen weights, shape ``[layers]``; None unless the rule asks for it.
    """

    scaling: Array
    A_sq: Array
    B_sq: Array
    A_grad_sq: Array
    B_grad_sq: Array
    rest_grad_sq: float = 0.0
    has_rest: bool = False
    loss: float | None = None
    weight_grad_sq: Array | None = None

    @property
    def stacked_norm(self) -> float:
        r"""$\|V\|$, the root of the sum of all $\|A_l\|^2 + \|B_l\|^2$."""
        return float(np.sqrt(np.sum(self.A_sq + self.B_sq)))

    @property
    def scaled_stacked_norm(self) -> float:
        r"""$\|\tilde V\|$ with $\tilde V_l = \sqrt{s_l} V_l$: does not depend on how s is split off."""
        return float(np.sqrt(np.sum(self.scaling * (self.A_sq + self.B_sq))))

    @property
    def gradient_norm(self) -> float:
        r"""$\|\nabla J\|$ over all trainable parameters."""
        return float(np.sqrt(np.sum(self.A_grad_sq + self.B_grad_sq) + self.rest_grad_sq))

    @property
    def scaled_gradient_norm(self) -> float:
        r"""$\|\nabla J\|$ with respect to $\tilde V$: each layer's square is divided by s."""
        return float(np.sqrt(np.sum((self.A_grad_sq + self.B_grad_sq) / self.scaling) + self.rest_grad_sq))

    @property
    def weight_gradient_norm(self) -> float | None:
        r"""$\|\nabla_W Loss\|$ over the frozen weights and the other trainable parameters; None if not measured."""
        if self.weight_grad_sq is None:
            return None
        return float(np.sqrt(np.sum(self.weight_grad_sq) + self.rest_grad_sq))
