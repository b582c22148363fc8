"""What an optimizer asks about the gradient of the frozen weights."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from lorate.gradient_norm import Method


class WeightGradient(Protocol):
    """Whatever can tell about the frozen weights' gradients G of the step that ends now."""

    method: Method

    def norms(self) -> Tensor:
        """Frobenius norm of G of each layer, shape ``[layers]``."""

    def spectral_bounds(self) -> Tensor:
        """Upper bound of the spectral norm of G of each layer, shape ``[layers]``."""

    def inner_products(self, D_A: Sequence[Tensor], D_B: Sequence[Tensor]) -> Tensor:
        """Inner product of G with ``D_B D_A`` for each layer, shape ``[layers]``."""

    def reset(self) -> None:
        """Forget the finished step."""
