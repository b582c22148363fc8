"""Measure ``||G||`` of every adapted layer during ordinary training steps."""

import math
from collections.abc import Sequence
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lorate import ranks
from lorate.adapters import LoraPair
from lorate.errors import LorateError
from lorate.geometry import squared_spectral_norms
from lorate.gradient_norm.norms import accumulation_dtype
from lorate.gradient_norm.sums import quick_norms
from lorate.gradient_norm.tap import Method, Tap
from lorate.hooks import attach

SPECTRAL_LIMIT = 256
"""Largest smaller side of G whose spectral norm `GradientCapture.numbers` bounds by more than the Frobenius norm."""


class GradientCapture:
    r"""Measures ``||G_l||`` of every adapted layer during ordinary training steps.

    Attach it before the forward passes of a step; after the backward passes read `norms` once and `reset`. All
    backward passes between two resets are one gradient: the matrices add, as ``.grad`` does. A forward pass without
    a backward pass leaves no trace. Parameters, outputs and gradients are the same with and without it, and nothing
    enters the state dict. Remove it for a double backward (Hessian-vector products): its second pass is not a gradient.

    With ``"exact"`` the inputs and output gradients, or G where that is smaller, stay in memory until `reset`. With
    ``"sketch"`` a matrix ``[p, probes]`` per layer does; the estimate's square has a relative standard deviation of at
    most ``sqrt(2 / probes)``.

    Attributes:
        loss_scale: what the loss was multiplied by before the backward passes (float16 training); a number, or a
            tensor with one, which is then not waited for.

    >>> import peft
    >>> from torch import nn
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
            raise LorateError(f"method must be 'exact' or 'sketch', got {method!r}")
        if probes < 1:
            raise LorateError(f"the sketch needs at least 1 probe, got {probes}")
        self.method: Method = method
        self.probes = probes
        self.seed = _checked_seed(seed)
        self.loss_scale: float | Tensor = 1.0
        self._taps = [Tap(pair, method, probes, self.seed) for pair in pairs]
        self._handles: list[RemovableHandle] = []

    def attach(self) -> Self:
        """Put the hooks on; nothing happens if they are on.

        With ``torch.compile``, attach before the first forward pass: a model traced without hooks runs none.
        """
        if not self._handles:
            self._handles = [attach(tap.layer.register_forward_hook, tap.note, with_kwargs=True) for tap in self._taps]
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
        """Forget the gradient measured so far, as ``zero_grad`` does; call it between backward and next forward pass.

        Args:
            seed: new seed of the sketch's signs, for instance ``base_seed + step``; the signs stay if not given.

        Raises:
            LorateError: the seed is negative.
        """
        if seed is not None:
            self.seed = _checked_seed(seed)
        for tap in self._taps:
            tap.seed = self.seed
            tap.total.clear()

    def norms(self) -> Tensor:
        """Frobenius norm of each layer's G: exact, or the sketch's estimate.

        Returns:
            Shape ``[layers]``, in the order of the pairs, on the layers' device (the first one's, if they differ);
            float64 for float64 layers, float32 otherwise. Zero for a layer that took no part. Infinite or NaN where
            the gradient is.

        Raises:
            LorateError: no backward pass was seen since the last reset, or `loss_scale` is not positive and finite.
        """
        numbers = self.numbers()
        if "doubt" in numbers and any(doubt := numbers["doubt"].tolist()):
            self.settle(doubt)
            numbers = self.numbers()
        return numbers["norm"]

    def numbers(self, *, bounds: bool = False) -> dict[str, Tensor]:
        r"""What one step asks for, without waiting for the device.

        Args:
            bounds: bound the spectral norms as well; the exact method only.

        Returns:
            Vectors ``[layers]``: ``"norm"`` as for `norms`; ``"bound"``, if asked for, at least $\|G\|_2$ and within a
            thousandth of it where the smaller side of G is at most `SPECTRAL_LIMIT`, else the Frobenius norm; and
            ``"doubt"`` if a norm came from Gram matrices. Where that is true rounding spoiled the layer's numbers: call
            `settle` and ask again.

        Raises:
            LorateError: as for `norms`, or bounds are wanted of a sketch.
        """
        if bounds and self.method != "exact":
            raise LorateError("a sketch bounds no norm; measure with method='exact'")
        filled = self._filled()
        with self._full_precision():
            if self.method == "sketch":
                return {"norm": self._gather(filled, [tap.total.norm() for tap in filled])}  # type: ignore[union-attr]
            small = [tap for tap in filled if bounds and tap.smaller_side <= SPECTRAL_LIMIT]
            # before the norms, which then come from these matrices too
            spectral = squared_spectral_norms([tap.whole()[None] for tap in small]).sqrt().unbind()
            norms, doubts = quick_norms([tap.total for tap in filled])  # type: ignore[misc]
        vectors = {"norm": self._gather(filled, norms)}
        if doubts is not None:
            vectors["doubt"] = self._spread(filled, doubts)
        if bounds:
            below = dict(zip(map(id, small), spectral, strict=True))
            # a bound that lies above the Frobenius norm would only lose
            least = [
                torch.minimum(norm, below[id(tap)].to(norm)) if id(tap) in below else norm
                for tap, norm in zip(filled, norms, strict=True)
            ]
            vectors["bound"] = self._gather(filled, least)
        return vectors

    def settle(self, doubt: Sequence[bool]) -> None:
        """Form G itself for the layers whose norm is in doubt by ``numbers()["doubt"]``."""
        for tap, doubtful in zip(self._taps, doubt, strict=True):
            if doubtful:
                tap.whole()

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
        return self._gather(filled, values)

    def average_over_ranks(self, group: dist.ProcessGroup | None = None) -> None:
        """Average G over the ranks (of a group), as data-parallel training does; call it on all, before `norms`.

        The sketch sends ``p * probes`` numbers per layer, the exact method the whole of G.

        Raises:
            LorateError: torch.distributed was not started.
        """
        sums = [tap.matrix() for tap in self._taps]  # zero where this rank saw nothing
        # small sketches travel together; the exact matrices are large enough to go one by one
        ranks.average_in_place(sums, at_once=self.method == "sketch", group=group)

    def _full_precision(self) -> torch.autocast:
        """The caller may be inside an autocast region, which would round the Gram products."""
        return torch.autocast(self._taps[0].pair.B.device.type, enabled=False)

    def _filled(self) -> list["Tap"]:
        filled = [tap for tap in self._taps if not tap.total.is_empty]
        if not filled:
            raise LorateError(
                "no backward pass was seen since the last reset (an optimizer resets at zero_grad and after steps): "
                "attach() the capture before the forward pass and read the norms after the backward pass"
            )
        return filled

    def _gather(self, filled: list[Tap], values: Sequence[Tensor]) -> Tensor:
        """The values on the scale of the loss that is trained on."""
        scale = self.loss_scale
        if not (isinstance(scale, Tensor) or (scale > 0 and math.isfinite(scale))):
            raise LorateError(f"the loss scale must be positive and finite, not {scale}")
        vector = self._spread(filled, values)
        return vector / (scale.to(vector.device) if isinstance(scale, Tensor) else scale)

    def _spread(self, filled: list[Tap], values: Sequence[Tensor]) -> Tensor:
        """One value per layer, zero for those that took no part."""
        by_tap = dict(zip(map(id, filled), values, strict=True))
        zero = torch.zeros_like(values[0])
        return torch.stack([by_tap.get(id(tap), zero).to(zero) for tap in self._taps])


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise LorateError(f"the sketch's seed must be a non-negative integer, got {seed}")
    return seed
