"""Each kind of layer seen as ``Y = X W^T``: how its input becomes the rows of X and its output those of Y."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorate.adapters import LoraPair
from lorate.errors import LorateError


class MatrixView(ABC):
    """A layer as a matrix product of N rows, with W of shape ``[out_dim, in_dim]``.

    Attributes:
        out_dim: p, columns of Y.
        in_dim: d, columns of X.
    """

    def __init__(self, out_dim: int, in_dim: int) -> None:
        self.out_dim = out_dim
        self.in_dim = in_dim

    @abstractmethod
    def input_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of X, ``[N, in_dim]``, in the dtype in which the layer computed."""

    @abstractmethod
    def output_rows(self, grad: Tensor) -> Tensor:
        """Rows of dY, ``[N, out_dim]``, from the gradient of the layer's output."""

    @abstractmethod
    def project(self, x: Tensor, Z: Tensor, dtype: torch.dtype) -> Tensor:
        """The product ``X Z``, ``[N, k]``, for Z of shape ``[in_dim, k]``, without forming X where it is large."""


class LinearView(MatrixView):
    """A linear layer: one row a token."""

    def input_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Tokens as rows."""
        return x.reshape(-1, self.in_dim).to(dtype)

    def output_rows(self, grad: Tensor) -> Tensor:
        """Tokens as rows."""
        return grad.reshape(-1, self.out_dim)

    def project(self, x: Tensor, Z: Tensor, dtype: torch.dtype) -> Tensor:
        """One thin matrix product."""
        return self.input_rows(x, dtype).to(Z.dtype) @ Z


class Conv2dView(MatrixView):
    """A convolution: one row an output pixel, with the patch that lora_A sees as its X.

    With groups lora_A still reads all input channels, so W is the dense kernel ``[C_out, C_in * kh * kw]`` and G its
    gradient, of which the grouped base weight is only a part.
    """

    def __init__(self, out_dim: int, in_dim: int, lora_A: nn.Conv2d) -> None:
        super().__init__(out_dim, in_dim)
        self.kernel_size = lora_A.kernel_size
        self.stride = lora_A.stride
        self.channels = lora_A.in_channels
        # left, right, top, bottom; "same" padding of an even kernel is not symmetric
        self.padding: list[int] = lora_A._reversed_padding_repeated_twice

    def _padded(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        images = x if x.dim() == 4 else x.unsqueeze(0)
        return F.pad(images.to(dtype), self.padding)

    def input_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Patches as rows."""
        patches = F.unfold(self._padded(x, dtype), self.kernel_size, stride=self.stride)
        return patches.transpose(1, 2).reshape(-1, self.in_dim)

    def output_rows(self, grad: Tensor) -> Tensor:
        """Output pixels as rows, in the order of the patches."""
        images = grad if grad.dim() == 4 else grad.unsqueeze(0)
        return images.flatten(2).transpose(1, 2).reshape(-1, self.out_dim)

    def project(self, x: Tensor, Z: Tensor, dtype: torch.dtype) -> Tensor:
        """A convolution with the columns of Z as kernels: no patches are formed."""
        kernels = Z.T.reshape(-1, self.channels, *self.kernel_size)
        maps = F.conv2d(self._padded(x, dtype).to(Z.dtype), kernels, stride=self.stride)
        return maps.flatten(2).transpose(1, 2).reshape(-1, Z.shape[1])


class EmbeddingView(MatrixView):
    """An embedding: X is one-hot, so its rows are token ids and ``X Z`` picks rows of Z.

    Padding tokens get the id -1: the frozen table takes no gradient there.
    """

    def __init__(self, out_dim: int, in_dim: int, base: nn.Module) -> None:
        super().__init__(out_dim, in_dim)
        self.padding_idx: int | None = getattr(base, "padding_idx", None)
        # models such as Gemma multiply the looked-up row by a constant
        self.scale = float(getattr(base, "embed_scale", 1.0))

    def input_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Token ids, ``[N]``, with -1 for padding."""
        ids = x.reshape(-1)
        return ids if self.padding_idx is None else ids.masked_fill(ids == self.padding_idx, -1)

    def output_rows(self, grad: Tensor) -> Tensor:
        """Tokens as rows, for the table's row before its constant factor."""
        rows = grad.reshape(-1, self.out_dim)
        return rows if self.scale == 1.0 else rows * self.scale

    def project(self, x: Tensor, Z: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of Z by token id, zero for padding."""
        ids = self.input_rows(x, dtype)
        return Z[ids.clamp(min=0)] * (ids >= 0).unsqueeze(1)


def view_of(pair: LoraPair) -> MatrixView:
    """Choose the view for a pair's layer; p and d are the factors', so a quantised base weight is never looked at.

    Raises:
        LorateError: the layer is of a kind for which G is not known here.
    """
    layer: Any = pair.layer
    out_dim, in_dim = pair.B.shape[0], pair.A.shape[1:].numel()
    if pair.dora:
        raise LorateError(
            f"{pair.name}: the gradient norm of a DoRA layer's frozen weight is not available, because its output is "
            "not linear in W0 + s B A; use a rule that does not need it"
        )
    if pair.kind == "linear":
        return LinearView(out_dim, in_dim)
    if pair.kind == "conv2d":
        return Conv2dView(out_dim, in_dim, layer.lora_A[pair.adapter])
    if pair.kind == "embedding":
        base = layer.get_base_layer()
        if getattr(base, "scale_grad_by_freq", False):
            raise LorateError(
                f"{pair.name}: an embedding with scale_grad_by_freq=True has no true gradient to measure; switch it off"
            )
        return EmbeddingView(out_dim, in_dim, base)
    raise LorateError(
        f"{pair.name}: the gradient norm is known for linear, conv2d and embedding layers, not for a layer of kind "
        f"{pair.kind!r} ({type(layer).__name__})"
    )
