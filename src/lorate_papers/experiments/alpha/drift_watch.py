"""Watch how the adapted weights move during a run: the first step, each window, and the run as a whole."""

from typing import Any

from torch import Tensor, nn

from lorate.adapters import factor_blocks, find_pairs
from lorate.scaling import SignalDrift, signal_and_drift

WINDOW = 10
"""Steps of a window, as in the monitor."""
Factors = tuple[list[Tensor], list[Tensor]]


class DriftWatch:
    """Call it after every step.

    Args:
        model: a PEFT model before its first step.
    """

    def __init__(self, model: nn.Module) -> None:
        self._pairs = find_pairs(model)
        self._steps = 0
        self._first_move: float | None = None
        self._ratios: list[float] = []
        self._beginning = self._window = self._copy()

    def __call__(self) -> None:
        """Note a step."""
        self._steps += 1
        if self._steps == 1:
            self._first_move = float(self._moved(self._beginning).signal_sq.sum().sqrt())
        if self._steps % WINDOW == 0:
            self._ratios.append(self._moved(self._window).ratio)
            self._window = self._copy()

    def values(self) -> dict[str, Any]:
        r"""What was seen.

        Returns:
            ``first_move``: $\|\Delta W\|$ of the first step, all layers together (A does not move while B is zero, so
            it is all signal), None before it; ``drift_ratios``: one a window; ``signal``, ``drift`` of the whole run.
        """
        whole = self._moved(self._beginning)
        return {
            "first_move": self._first_move,
            "drift_ratios": self._ratios,
            "signal": float(whole.signal_sq.sum().sqrt()),
            "drift": float(whole.drift_sq.sum().sqrt()),
        }

    def _moved(self, start: Factors) -> SignalDrift:
        return signal_and_drift(*start, *self._blocks(), [pair.scaling for pair in self._pairs])

    def _copy(self) -> Factors:
        A, B = self._blocks()
        return [block.clone() for block in A], [block.clone() for block in B]

    def _blocks(self) -> Factors:
        blocks = [factor_blocks(pair.A.detach(), pair.B.detach(), pair.groups) for pair in self._pairs]
        return [A for A, _ in blocks], [B for _, B in blocks]
