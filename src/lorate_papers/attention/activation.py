"""The two attention functions, with the derivatives that the fixed-point equations need.

Arguments are batches of T x T attention matrices, shape ``[points, T, T]``; the function acts on each row.
The loss of a sequence is ``||sigma(A) - Y||_F^2``, a sum over rows, so its second derivative is one T x T block
a row.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Activation(ABC):
    """A row-wise attention function sigma."""

    @abstractmethod
    def value(self, A: Array) -> Array:
        """sigma(A)."""

    @abstractmethod
    def jacobian(self, A: Array) -> Array:
        """Derivative of sigma(A)_ak in A_al, symmetric in k and l, shape ``[points, T (row a), T (k), T (l)]``."""

    @abstractmethod
    def curvature(self, A: Array, Y: Array) -> tuple[Array, Array]:
        """Gradient of the loss, shape of A, and its second derivative, one block a row."""

    def loss(self, A: Array, Y: Array) -> Array:
        """The loss of every sequence, shape ``[points]``."""
        return np.asarray(((self.value(A) - Y) ** 2).sum((-2, -1)))


class Linear(Activation):
    """sigma(a) = a / T."""

    def value(self, A: Array) -> Array:
        """A / T."""
        return np.asarray(A / A.shape[-1])

    def jacobian(self, A: Array) -> Array:
        """1 / T times the identity."""
        T = A.shape[-1]
        return np.broadcast_to(np.eye(T) / T, (*A.shape, T))

    def curvature(self, A: Array, Y: Array) -> tuple[Array, Array]:
        """(2/T) (A/T - Y), and 2 / T^2 times the identity."""
        T = A.shape[-1]
        return 2 / T * (A / T - Y), np.broadcast_to(2 * np.eye(T) / T**2, (*A.shape, T))


class Softmax(Activation):
    """sigma(a) = exp(a) / sum exp(a) along the row."""

    def value(self, A: Array) -> Array:
        """Softmax of the rows."""
        weight = np.exp(A - A.max(-1, keepdims=True))
        return np.asarray(weight / weight.sum(-1, keepdims=True))

    def jacobian(self, A: Array) -> Array:
        """diag(p) - p p^T for p the softmax of the row."""
        return _softmax_jacobian(self.value(A))

    def curvature(self, A: Array, Y: Array) -> tuple[Array, Array]:
        """2 p (r - p.r) and 2 [J_kl (r_k - p.r) + p_k (J_kl - sum_j (r_j + p_j) J_jl)] for r = p - y."""
        p = self.value(A)
        J = _softmax_jacobian(p)
        residual = p - Y
        shifted = residual - (p * residual).sum(-1, keepdims=True)
        pulled = ((residual + p)[..., None, :] @ J)[..., 0, :]  # sum_j (r_j + p_j) J_jl
        block = J * shifted[..., None] + p[..., None] * (J - pulled[..., None, :])
        return 2 * p * shifted, 2 * block


def _softmax_jacobian(p: Array) -> Array:
    return np.asarray(p[..., None] * np.eye(p.shape[-1]) - p[..., None] * p[..., None, :])


LINEAR = Linear()
SOFTMAX = Softmax()
