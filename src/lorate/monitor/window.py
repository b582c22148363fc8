"""A stretch of steps at whose end the monitor says how far the weights have moved, and how linearly."""

from typing import Any

import numpy as np
from torch import Tensor

from lorate.monitor.other import OtherOptimizer
from lorate.optim import LoraOptimizer
from lorate.optim.layout import Slot, blocks_by_layer, slots, values
from lorate.optim.measure import full_precision, to_host
from lorate.scaling import effective_rank, signal_and_drift


class Window:
    """The adapters as they stood after one step, kept until the window ends: one copy of them.

    Args:
        optimizer: after ``optimizer.step()``.
    """

    def __init__(self, optimizer: LoraOptimizer | OtherOptimizer) -> None:
        assert optimizer.last is not None
        self.start = optimizer.last.number
        self._A, self._B = _blocks(optimizer, [value.clone() for value in values(_factors(optimizer))])

    def record(self, optimizer: LoraOptimizer | OtherOptimizer) -> dict[str, Any]:
        r"""How far the weights have moved since, with one transfer from the device.

        Returns:
            ``window_start``: the step after which the window began; ``signal`` and ``drift``: one norm per layer,
            $\|s(\delta B A_0 + B_0\,\delta A)\|$ and $\|s\,\delta B\,\delta A\|$; ``effective_rank`` of each layer's
            update now, see `lorate.scaling.effective_rank`, and its ``rank``, the most that can be.
        """
        factors = _factors(optimizer)
        with full_precision(factors):
            A, B = _blocks(optimizer, values(factors))
            moved = signal_and_drift(self._A, self._B, A, B, [layer.scaling for layer in optimizer.layers])
            spread = effective_rank(A, B)
        found = {"signal": moved.signal_sq, "drift": moved.drift_sq, "effective_rank": spread}
        host = to_host(found, moved.signal_sq.device)
        lengths = {name: np.sqrt(host[name]).tolist() for name in ("signal", "drift")}
        ranks = {"effective_rank": host["effective_rank"].tolist(), "rank": [len(a) * a.shape[1] for a in A]}
        return {"window_start": self.start} | lengths | ranks


def _factors(optimizer: LoraOptimizer | OtherOptimizer) -> list[Slot]:
    return [slot for slot in slots(optimizer.param_groups) if slot.role is not None]


def _blocks(optimizer: LoraOptimizer | OtherOptimizer, tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    return blocks_by_layer(_factors(optimizer), tensors, optimizer.layers)
