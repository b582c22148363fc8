"""What LoRA's own gradients say about ``||G||`` for nothing: bounds, and an estimate at the first step."""

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.gradient_norm.norms import frobenius, spectral


def lower_bound(grad_B: Tensor, A: Tensor, scaling: float, dropout: float = 0.0) -> Tensor:
    r"""``||gB||_F / (s ||A||_2) <= ||G||_F``, from ``gB = s G A^T``.

    Holds for grouped convolutions too, with the whole of A and B. With the roles exchanged (``grad_A``, B) it is the
    bound from ``gA = s B^T G``, the useful one for embeddings, where A starts at zero.

    Args:
        grad_B: gradient of B, any shape.
        A: the other factor as PEFT stores it, ``[r, ...]``.
        scaling: s.
        dropout: ``lora_dropout`` of the layer.

    Returns:
        A scalar; 0 where A is zero, which says nothing.

    Raises:
        LorateError: dropout is positive: the factors then see another input than the frozen weight.

    >>> lower_bound(torch.tensor([[8.0]]), torch.tensor([[2.0]]), scaling=2.0)
    tensor(2.)
    """
    _refuse_dropout(dropout)
    size = scaling * spectral(A.detach().flatten(1))
    norm = frobenius(grad_B.detach())
    return torch.where(size > 0, norm / size, torch.zeros_like(norm))


def upper_bound(dY: Tensor, X: Tensor, dropout: float = 0.0) -> Tensor:
    """``||G||_F <= ||dY||_F ||X||_F``, from ``G = dY^T X``.

    Args:
        dY: gradient of the outputs, ``[N, p]``.
        X: inputs, ``[N, d]``; all rows of the step, or add the bounds of its parts.
        dropout: ``lora_dropout`` of the layer.

    Returns:
        A scalar.

    Raises:
        LorateError: dropout is positive: no claim is made about such a layer.
    """
    _refuse_dropout(dropout)
    return frobenius(dY) * frobenius(X)


def first_step_squared_norm(grad_B: Tensor, rank: int, in_dim: int, scaling: float, dropout: float = 0.0) -> Tensor:
    r"""Unbiased estimate ``3 d / (r s^2) ||gB||_F^2`` of ``||G||_F^2`` before the first step.

    PEFT draws A uniformly from ``[-1/sqrt(d), 1/sqrt(d)]``, with variance ``1 / (3 d)``, so
    ``E ||s G A^T||^2 = s^2 r / (3 d) ||G||^2``. Once A has moved it is no longer independent of G. For linear and
    convolution layers with the default initialisation only.

    Args:
        grad_B: gradient of B at the first step, any shape.
        rank: r; for a grouped convolution r / groups.
        in_dim: d, ``C_in * kh * kw`` for a convolution.
        scaling: s.
        dropout: ``lora_dropout`` of the layer.

    Returns:
        A scalar: the square of the norm.

    Raises:
        LorateError: dropout is positive, or s is 0.

    >>> first_step_squared_norm(torch.tensor([[1.0]]), rank=3, in_dim=4, scaling=2.0)
    tensor(1.)
    """
    _refuse_dropout(dropout)
    if scaling == 0:
        raise LorateError("the scaling is 0, so the gradient of B is zero and says nothing about the frozen weight")
    return frobenius(grad_B.detach()).square() * (3 * in_dim / (rank * scaling**2))


def _refuse_dropout(dropout: float) -> None:
    if dropout > 0:
        raise LorateError(
            f"bounds on the frozen weight's gradient need lora_dropout=0, not {dropout:g}: with dropout the factors "
            "see another input than the frozen weight"
        )
