"""Hooks on LoRA layers that see each layer's input and output gradient, and add up what ``||G||`` needs."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.utils.hooks import RemovableHandle

from lorate.adapters import LoraPair
from lorate.errors import LorateError
from lorate.geometry import squared_spectral_norms
from lorate.gradient_norm.exact import MatrixSum, RowSum, exact_norms
from lorate.gradient_norm.layers import EmbeddingView, view_of
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.gradient_norm.sketch import SketchSum

Method = Literal["exact", "sketch"]
SPECTRAL_LIMIT = 256
"""Largest smaller side of G for which `GradientCapture.spectral_bounds` takes the spectral norm."""


class GradientCapture:
    r"""Measures ``||G_l||`` of every adapted layer during ordinary training steps.

    Attach it before the forward passes of a step; after the backward passes read `norms` once and `reset`. All
    backward passes between two resets are one gradient: the matrices add, as ``.grad`` does. A forward pass without
    a backward pass leaves no trace. Parameters, outputs and gradients are the same with and without it, and nothing
    enters the state dict. Remove it for a double backward (Hessian-vector products), whose second pass is no gradient.

    With ``"exact"`` the inputs and output gradients, or G where that is smaller, stay in memory until `reset`. With
    ``"sketch"`` a matrix ``[p, probes]`` a layer does; the estimate's square has a relative standard deviation of at
    most ``sqrt(2 / probes)``.

    >>> import peft
    >>> from lorate.adapters import find_pairs
    >>> config = peft.LoraConfig(r=2, target_modules=["0"])
    >>> model = peft.get_peft_model(nn.Sequential(nn.Linear(2, 1)), config)
    >>> with GradientCapture(find_pairs(model), method="exact") as capture:
    ...     model(torch.tensor([[3.0, 4.0]])).sum().backward()
    >>> capture.norms()
    tensor([5.])
    """

    def __init__(self, pairs: Sequence[LoraPair], method: Method = "sketch", *, probes: int = 8, seed: int = 0) -> None:
        """Prepare the hooks; `attach` puts them on.

        Args:
            pairs: the adapted matrices, as `lorate.adapters.find_pairs` lists them.
            method: ``"exact"`` or ``"sketch"``.
            probes: k, random columns of the sketch.
            seed: seed of the sketch's signs, a non-negative integer; the same on all ranks.

        Raises:
            LorateError: no pairs, an unknown method, ``probes < 1``, a negative seed, or a layer whose G is not known.
        """
        if not pairs:
            raise LorateError("expected at least one LoRA pair to measure, got none")
        if method not in ("exact", "sketch"):
            raise LorateError(f"the gradient norm is taken by 'exact' or 'sketch', not by {method!r}")
        if probes < 1:
            raise LorateError(f"the sketch needs at least 1 probe, got {probes}")
        self.method: Method = method
        self.probes = probes
        self.seed = _checked_seed(seed)
        self._taps = [_Tap(pair, method, probes, self.seed) for pair in pairs]
        self._handles: list[RemovableHandle] = []

    def attach(self) -> Self:
        """Put the hooks on; nothing happens if they are on.

        With ``torch.compile``, attach before the first forward pass: a model traced without hooks runs none.
        """
        if not self._handles:
            self._handles = [tap.layer.register_forward_hook(tap, with_kwargs=True) for tap in self._taps]
            for tap in self._taps:
                tap.attached = True
        return self

    def remove(self) -> None:
        """Take the hooks off; graphs that are still alive add nothing from here on. What was added stays readable."""
        for handle in self._handles:
            handle.remove()
        for tap in self._taps:
            tap.attached = False
        self._handles = []

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def reset(self, seed: int | None = None) -> None:
        """Forget the gradient measured so far, as ``zero_grad`` does.

        Args:
            seed: new seed of the sketch's signs, for instance ``base_seed + step`` to draw fresh ones each step; the
                signs stay if not given. Call it between a backward and the next forward pass.

        Raises:
            LorateError: the seed is negative.
        """
        if seed is not None:
            self.seed = _checked_seed(seed)
        for tap in self._taps:
            tap.seed = self.seed
            tap.total.clear()

    def norms(self, loss_scale: float = 1.0) -> Tensor:
        """Frobenius norm of each layer's G: exact, or the sketch's estimate.

        Args:
            loss_scale: what the loss was multiplied by before the backward pass (fp16 training).

        Returns:
            Shape ``[layers]``, in the order of the pairs, on the layers' device (the first one's, if they differ);
            float64 for float64 layers, float32 otherwise. Zero for a layer that took no part. Infinite or NaN where
            the gradient is.

        Raises:
            LorateError: no backward pass was seen since the last reset, or the scale is not positive and finite.
        """
        filled = self._filled()
        with self._full_precision():
            if self.method == "exact":
                values = exact_norms([tap.total for tap in filled])  # type: ignore[misc]
            else:
                values = [tap.total.norm() for tap in filled]  # type: ignore[union-attr]
        return self._gather(filled, values, loss_scale)

    def spectral_norms(self, loss_scale: float = 1.0) -> Tensor:
        """Largest singular value of each layer's G; costs a singular value decomposition a layer.

        Args:
            loss_scale: what the loss was multiplied by before the backward pass (fp16 training).

        Returns:
            Shape ``[layers]``, as for `norms`.

        Raises:
            LorateError: the method is the sketch, which cannot see it, or as for `norms`.
        """
        if self.method != "exact":
            raise LorateError("a sketch does not know the spectral norm; measure with method='exact'")
        filled = self._filled()
        with self._full_precision():
            values = [tap.total.spectral_norm() for tap in filled]  # type: ignore[union-attr]
        return self._gather(filled, values, loss_scale)

    def spectral_bounds(self) -> Tensor:
        r"""An upper bound of each layer's $\|G\|_2$ without waiting for the device.

        Within a thousandth of it where the smaller side of G is at most `SPECTRAL_LIMIT`; else the Frobenius norm.

        Returns:
            Shape ``[layers]``, as for `norms`.

        Raises:
            LorateError: the method is the sketch, which bounds nothing, or as for `norms`.
        """
        if self.method != "exact":
            raise LorateError("a sketch bounds no norm; measure with method='exact'")
        bounds = list(self.norms().unbind())
        small = [i for i, tap in enumerate(self._taps) if not tap.total.is_empty and tap.smaller_side <= SPECTRAL_LIMIT]
        with self._full_precision():
            spectral = squared_spectral_norms([self._taps[i].whole()[None] for i in small]).sqrt().unbind()
        for i, bound in zip(small, spectral, strict=True):
            # a bound that lies above the Frobenius norm would only lose
            bounds[i] = torch.minimum(bounds[i], bound.to(bounds[i]))
        return torch.stack(bounds)

    def inner_products(self, D_A: Sequence[Tensor], D_B: Sequence[Tensor]) -> Tensor:
        r"""$\langle G_l, D_{B,l} D_{A,l}\rangle$ of each layer: exact, or the sketch's unbiased estimate.

        Args:
            D_A: one displacement of A a layer, in blocks ``[groups, r, d]`` (see `lorate.adapters.factor_blocks`).
            D_B: displacements of B, ``[groups, p / groups, r]``.

        Returns:
            Shape ``[layers]``, as for `norms`.

        Raises:
            LorateError: as for `norms`.
        """
        filled = self._filled()
        by_tap = {id(tap): (a, b) for tap, a, b in zip(self._taps, D_A, D_B, strict=True)}
        with self._full_precision():
            values = []
            for tap in filled:
                a, b = (x.to(accumulation_dtype(x.dtype)) for x in by_tap[id(tap)])
                values.append(tap.total.inner_product(a, b))
        return self._gather(filled, values, 1.0)

    @torch.no_grad()
    def average_over_ranks(self, group: dist.ProcessGroup | None = None) -> None:
        """Average G over the ranks, as data-parallel training averages gradients; call it on all, before `norms`.

        The sketch sends ``p * probes`` numbers a layer, the exact method the whole of G.

        Args:
            group: the ranks to average over; all of them if not given.

        Raises:
            LorateError: torch.distributed was not started.
        """
        if not dist.is_initialized():
            raise LorateError("expected torch.distributed to be initialised before averaging over ranks")
        world = dist.get_world_size(group)
        totals = [tap.total.matrix(like=tap.pair.B) for tap in self._taps]
        # one message for all the small sketches; the exact matrices are large enough to go one by one
        batches = [totals] if self.method == "sketch" else [[total] for total in totals]
        for batch in batches:
            message = torch.cat([total.flatten().to(batch[0]) for total in batch])
            dist.all_reduce(message, group=group)
            pieces = message.div_(world).split([total.numel() for total in batch])  # type: ignore[no-untyped-call]
            for total, piece in zip(batch, pieces, strict=True):
                total.copy_(piece.view_as(total))

    def _full_precision(self) -> torch.autocast:
        """The caller may be inside an autocast region, which would round the Gram products."""
        return torch.autocast(self._taps[0].pair.B.device.type, enabled=False)

    def _filled(self) -> list["_Tap"]:
        filled = [tap for tap in self._taps if not tap.total.is_empty]
        if not filled:
            raise LorateError(
                "no backward pass was seen since the last reset: attach() the capture before the forward pass and "
                "read the norms after the backward pass"
            )
        return filled

    def _gather(self, filled: list["_Tap"], values: list[Tensor], loss_scale: float) -> Tensor:
        if not (loss_scale > 0 and math.isfinite(loss_scale)):
            raise LorateError(f"the loss scale must be positive and finite, not {loss_scale}")
        by_tap = dict(zip(map(id, filled), values, strict=True))
        zero = torch.zeros_like(values[0])
        return torch.stack([by_tap.get(id(tap), zero).to(zero) for tap in self._taps]) / loss_scale


class _Tap:
    """The forward hook of one layer; an object rather than a closure, so that models with hooks copy and pickle."""

    def __init__(self, pair: LoraPair, method: Method, probes: int, seed: int) -> None:
        self.pair = pair
        self.layer: Any = pair.layer
        self.view = view_of(pair)
        self.seed = seed
        self.smaller_side = min(self.view.out_dim, self.view.in_dim)
        self.attached = False
        # only there to give the kept inputs a place in the graph
        self.anchor = torch.empty(0, requires_grad=True)
        dims = self.view.out_dim, self.view.in_dim
        self.total: MatrixSum | RowSum | SketchSum
        if method == "sketch":
            self.total = SketchSum(*dims, probes, pair.name)
        else:
            self.total = RowSum(*dims) if isinstance(self.view, EmbeddingView) else MatrixSum(*dims)

    @_disable_dynamo  # torch.compiler.disable, without its second of import
    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        # gradient checkpointing runs a first forward without grad: the second one is hooked instead
        if not (torch.is_grad_enabled() and output.requires_grad) or self._is_bypassed():
            return
        if kwargs.get("adapter_names") is not None:
            raise LorateError(
                f"{self.pair.name}: the gradient norm is not known for batches that mix adapters; "
                "leave adapter_names out"
            )
        x: Tensor = (args[0] if args else kwargs["x"]).detach()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            if isinstance(self.total, SketchSum):
                kept = self.view.project(x, self.total.signs(self.seed, like=output), output.dtype)
            else:
                kept = x
        node = _Keep.apply(self.anchor, kept).grad_fn  # type: ignore[no-untyped-call]
        output.register_hook(partial(self._on_gradient, [node], self.seed))  # type: ignore[no-untyped-call]

    def _on_gradient(self, box: list[Any], seed: int, grad: Tensor) -> None:
        if not self.attached:
            return
        (kept,) = box[0].saved_tensors
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
        return self.total.matrix(like=self.pair.B.detach())

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


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise LorateError(f"the sketch's seed must be a non-negative integer, got {seed}")
    return seed
