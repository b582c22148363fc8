"""The hook of one LoRA layer: it sees the layer's input and output gradient, and adds up what ``||G||`` needs."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lorate.adapters import LoraPair
from lorate.errors import LorateError
from lorate.gradient_norm.layers import EmbeddingView, view_of
from lorate.gradient_norm.sketch import SketchSum
from lorate.gradient_norm.sums import MatrixSum, RowSum

Method = Literal["exact", "sketch"]


class Tap:
    """What the forward hook of one layer does.

    The gradient is taken at the output of the whole LoRA layer: it equals that of the frozen layer's output, and unlike
    that it always exists.

    Attributes:
        attached: whether gradients of graphs that are still alive count.
        total: the sum over the backward passes since it was last cleared.

    Args:
        pair: the adapted matrix.
        method: ``"exact"`` or ``"sketch"``.
        probes: k, columns of the sketch.
        seed: seed of its signs.

    Raises:
        LorateError: the layer is of a kind whose G is not known.
    """

    def __init__(self, pair: LoraPair, method: Method, probes: int, seed: int) -> None:
        self.pair = pair
        self.layer: Any = pair.layer
        self.view = view_of(pair)
        self.seed = seed
        self.attached = False
        # only there to give the kept inputs a place in the graph
        self.anchor = torch.empty(0, requires_grad=True)
        dims = self.view.out_dim, self.view.in_dim
        self.total: MatrixSum | RowSum | SketchSum
        if method == "sketch":
            self.total = SketchSum(*dims, probes, pair.name)
        else:
            self.total = RowSum(*dims) if isinstance(self.view, EmbeddingView) else MatrixSum(*dims)

    @property
    def smaller_side(self) -> int:
        """The smaller one of G's two sides."""
        return min(self.view.out_dim, self.view.in_dim)

    def note(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Run after the layer's forward pass."""
        # gradient checkpointing runs a first forward without grad: the second one is hooked instead
        if not (torch.is_grad_enabled() and output.requires_grad) or self._is_bypassed():
            return
        if kwargs.get("adapter_names") is not None:
            raise LorateError(
                f"{self.pair.name}: the gradient norm is not known for batches that mix adapters; "
                "leave adapter_names out"
            )
        kept: Tensor = (args[0] if args else kwargs["x"]).detach()
        if isinstance(self.total, SketchSum):
            with torch.no_grad(), torch.autocast(kept.device.type, enabled=False):
                kept = self.view.project(kept, self.total.signs(self.seed, like=output), output.dtype)
        # the tensor, not its node alone: torch before 2.13 frees what a node saved when its tensor goes
        anchored = _Keep.apply(self.anchor, kept)  # type: ignore[no-untyped-call]
        output.register_hook(partial(self._on_gradient, [anchored], self.seed))  # type: ignore[no-untyped-call]

    def _on_gradient(self, box: list[Any], seed: int, grad: Tensor) -> None:
        if not self.attached:
            return
        (kept,) = box[0].grad_fn.saved_tensors
        if not _graph_is_retained():
            box.clear()  # the loss may live on, and with it this hook: the inputs need not
        if seed != self.seed:
            raise LorateError(
                f"{self.pair.name}: the sketch's seed changed between a forward and its backward pass; "
                "call reset(seed) after the backward pass"
            )
        with torch.no_grad():
            grad = grad.detach()
            if not isinstance(self.total, SketchSum):
                kept = self.view.input_rows(kept, grad.dtype)
            self.total.add(self.view.output_rows(grad), kept)

    def whole(self) -> Tensor:
        """G itself, without the rows of tokens that did not occur; the exact method only."""
        if isinstance(self.total, RowSum):
            assert self.total.rows is not None
            return self.total.rows
        return self.matrix()

    def matrix(self) -> Tensor:
        """The sum as the ranks add it up: G, or its sketch; zero if no pass was added."""
        like = self.pair.B.detach()
        if isinstance(self.total, SketchSum):
            self.total.signs(self.seed, like)  # a rank without a pass has drawn none, and inner products need them
        return self.total.matrix(like)

    def _is_bypassed(self) -> bool:
        """Whether this forward pass leaves the adapter out, so that the factors have no part in it."""
        return self.layer.disable_adapters or self.layer.merged or self.pair.adapter not in self.layer.active_adapters


class _Keep(torch.autograd.Function):
    """Keeps a tensor for the backward pass as autograd keeps its own, without being part of the loss's graph.

    So gradient checkpointing drops and recomputes it, offloading moves it, and a change in place is noticed.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return anchor.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        return None, None


def _graph_is_retained() -> bool:
    """Whether the running backward pass keeps its graph, so that a second one may follow."""
    keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return keeps_graph is None or bool(keeps_graph())  # not public: without it the inputs live as long as the loss
