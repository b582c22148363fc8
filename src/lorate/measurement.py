"""What one optimizer step knows: measured once, read by the rule, the monitor and the report."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Displacement:
    r"""What a direction D of the factors does to the weights, $\eta P + \eta^2 Q$ for a step $\eta$.

    Attributes:
        slope: $\langle g, D\rangle$, shape ``[layers]`` like all arrays here.
        pp: $\|P\|^2$.
        pq: $\langle P, Q\rangle$.
        qq: $\|Q\|^2$.
        gradient_q: $\langle G, Q\rangle$, or 0 where it is left to L.
        A_sq: $\|D_A\|^2$.
        B_sq: $\|D_B\|^2$.
        unit: what one common step of 1 multiplies each layer's D by: 1/s for minus the gradient, so that the scaled
            factors descend; 1 for the direction of another optimizer.
        rest_slope: $\langle g, D\rangle$ over the trainable parameters that are not LoRA factors.
        rest_sq: squared length of D over these; they move by $\eta D$ itself.
        precision: relative precision of the numbers.
    """

    slope: Array
    pp: Array
    pq: Array
    qq: Array
    gradient_q: Array
    A_sq: Array
    B_sq: Array
    unit: Array
    rest_slope: float = 0.0
    rest_sq: float = 0.0
    precision: float = 1e-14


@dataclass(frozen=True)
class Measurement:
    r"""Lengths at the current adapters, on the scale of the training loss.

    Layers are in the order of the LoRA pairs. "The rest" are trainable parameters that are not LoRA factors; they
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
        loss: the training loss of this step, averaged over its micro-batches; None if it was not given.
        weight_grad_sq: $\|G_l\|_F^2$ of the frozen weights, shape ``[layers]``; None unless the rule asks for it.
        weight_grad_bound: an upper bound of $\|G_l\|_2$ that is at most $\|G_l\|_F$, shape ``[layers]``; None if not
            measured exactly, or not asked for.
        A_spectral_sq: $\|A_l\|_2^2$, from above, shape ``[layers]``; None unless the rule asks for it.
        B_spectral_sq: $\|B_l\|_2^2$ likewise.
        displacement: what the step's direction does to the weights; None unless the rule asks for it.
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
    weight_grad_bound: Array | None = None
    A_spectral_sq: Array | None = None
    B_spectral_sq: Array | None = None
    displacement: Displacement | None = None

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
