"""A damped fixed-point iteration, and the exception for when it does not settle."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLOSE = 0.02  # residual over state from which extrapolation starts
TRUSTED = 20.0  # longest extrapolation, in residuals


class NotConverged(RuntimeError):
    """A solver stopped before its equations held.

    Args:
        message: what did not converge; the state and the residual are added to it.
        state: see below.
        residual: see below.

    Attributes:
        state: the last values, by the symbols of the equations.
        residual: how far the equations were from holding.
    """

    def __init__(self, message: str, state: dict[str, float], residual: float) -> None:
        values = ", ".join(f"{name}={value:.6g}" for name, value in state.items())
        super().__init__(f"{message} (last state: {values}; residual {residual:.2g})")
        self.state = state
        self.residual = residual

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self.args[0], self.state, self.residual)


def _restore(message: str, state: dict[str, float], residual: float) -> NotConverged:
    """Rebuild the exception after it crossed a process border."""
    error = NotConverged.__new__(NotConverged)
    RuntimeError.__init__(error, message)
    error.state, error.residual = state, residual
    return error


def settle(
    update: Callable[[Array], Array],
    start: Array,
    names: tuple[str, ...],
    tolerance: float,
    damping: float = 0.5,
    max_iterations: int = 500,
) -> Array:
    r"""Find ``x = update(x)`` by damped iteration, sped up by Anderson's method once it has come close.

    The damped step is ``x + (1 - damping) f`` with ``f = update(x) - x``. Near the solution the last few steps span the
    space, and the combination of them that makes ``f`` smallest replaces the state (Walker and Ni 2011).

    Args:
        update: the map whose fixed point is wanted.
        start: first state, shape ``[n]``.
        names: symbols of the state, for the exception.
        tolerance: largest allowed ``|update(x) - x|``.
        damping: share of the old state that is kept, in [0, 1).
        max_iterations: after which it gives up.

    Returns:
        The fixed point, shape ``[n]``.

    Raises:
        NotConverged: the change stayed above the tolerance, or the state stopped being finite.

    >>> settle(np.cos, np.array([1.0]), ("x",), 1e-10).round(6).tolist()
    [0.739085]
    """
    state, residual = start, np.inf
    message = f"no fixed point after {max_iterations} iterations"
    states: list[Array] = []
    changes: list[Array] = []
    for _ in range(max_iterations):
        change = update(state) - state
        residual = float(np.abs(change).max())
        if not np.isfinite(residual):
            message = "the iteration left the range of finite numbers"
            break
        if residual <= tolerance:
            return state
        depth = len(start) + 1
        states, changes = [*states, state][-depth:], [*changes, change][-depth:]
        state = state + (1 - damping) * change
        if residual < CLOSE * np.abs(state).max() and len(states) == depth:
            d_states, d_changes = np.diff(states, axis=0), np.diff(changes, axis=0)
            weights = np.linalg.lstsq(d_changes.T, change, rcond=1e-10)[0]
            correction = (d_states + (1 - damping) * d_changes).T @ weights
            if np.abs(correction).max() < TRUSTED * residual:
                state = state - correction
    last = dict(zip(names, state.tolist(), strict=True))
    raise NotConverged(message, last, residual)
