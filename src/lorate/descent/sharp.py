r"""The sharp descent lemma: along the LoRA gradient each layer is as good as a-smooth.

For $W_l = W_{0,l} + s_l B_l A_l$ and a loss that is L-smooth in all weights jointly, let

$$ a_l = s_l^2 L\,(\|A_l\|_2^2 + \|B_l\|_2^2) + s_l\|G_l\|_2 . $$

If every layer moves along its negative gradient by $\eta_l \le 1/a_l$, then

$$ J(V^+) \le J(V) - \sum_l \eta_l\,(1 - \tfrac12\eta_l a_l)\,\|g_l\|^2 . $$

The bound is the classical one of an a-smooth function, and 1/a is the best step it allows. Frobenius norms instead of
spectral ones give a larger a, so they stay valid. Source: docs/mathematics/sharp.md, Theorem 1.
"""

import numpy as np

from lorate.descent.checks import FloatArray, Floats, inverse, non_negative, positive_smoothness

SHARP_FRACTION = 0.5
"""The sharp step lowers the loss by at least this fraction of eta times the squared gradient norm."""


def layer_curvature(
    a_norm: Floats,
    b_norm: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
    scaling: Floats = 1.0,
) -> FloatArray:
    r"""Effective curvature $a = s^2 L(\|A\|^2 + \|B\|^2) + s\|G\|$ of each layer along its gradient.

    Args:
        a_norm: norm of A, spectral or Frobenius, shape ``[layers]`` (all arguments broadcast).
        b_norm: norm of B.
        weight_grad_norm: norm of G, the gradient of the frozen weight.
        smoothness: L > 0, jointly in all adapted weights.
        scaling: s.

    Returns:
        One curvature per layer, in units of one over a step size.

    Raises:
        LorateError: L is not positive, or a norm is negative or not finite.

    >>> float(layer_curvature(1.0, 2.0, 3.0, smoothness=0.1))
    3.5
    """
    constant = positive_smoothness(smoothness)
    size = non_negative("a_norm", a_norm) ** 2 + non_negative("b_norm", b_norm) ** 2
    scale = non_negative("scaling", scaling)
    gradient = non_negative("weight_grad_norm", weight_grad_norm)
    return np.asarray(scale**2 * constant * size + scale * gradient, dtype=np.float64)


def sharp_step_size(
    a_norm: Floats,
    b_norm: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
    scaling: Floats = 1.0,
) -> FloatArray:
    r"""Step $\eta_l = 1/a_l$ of each layer; the loss falls by at least half of eta times ``|gradient|^2``.

    For one step size for the whole model take the smallest. Parameters outside the factors may move by up to 1/L with
    the same guarantee.

    Arguments and errors as in `layer_curvature`.

    Returns:
        Step sizes, shape ``[layers]``; infinite where A, B and G are all zero (a layer without gradient).

    >>> sharp_step_size([1.0, 0.0], [0.0, 0.0], [0.0, 2.0], smoothness=4.0)
    array([0.25, 0.5 ])
    """
    return inverse(layer_curvature(a_norm, b_norm, weight_grad_norm, smoothness, scaling))


def guaranteed_decrease(step_size: Floats, grad_norm_sq: Floats, curvature: Floats) -> FloatArray:
    r"""Decrease that the sharp lemma proves, $\eta(1 - \tfrac12\eta a)\|g\|^2$, one value per layer.

    Args:
        step_size: eta of each layer.
        grad_norm_sq: squared Frobenius norm of the layer's factor gradients.
        curvature: a, from `layer_curvature`.

    Returns:
        The proved decrease; minus infinity where eta a > 1, a step about which the lemma says nothing, and 0 where
        the gradient is zero.

    Raises:
        LorateError: ``grad_norm_sq`` or ``curvature`` is negative or not finite.

    >>> guaranteed_decrease([0.5, 1.0, 1.5], 4.0, 1.0)
    array([ 1.5,  2. , -inf])
    """
    step, gradient, curve = np.broadcast_arrays(
        np.asarray(step_size, dtype=np.float64),
        non_negative("grad_norm_sq", grad_norm_sq),
        non_negative("curvature", curvature),
    )
    with np.errstate(invalid="ignore"):
        load = np.where(curve > 0, step * curve, 0.0)
        decrease = step * (1 - load / 2) * gradient
    # 1/a times a may round to just above one
    decrease = np.where(load <= 1 + 1e-12, decrease, -np.inf)
    return np.where(gradient > 0, decrease, 0.0)
