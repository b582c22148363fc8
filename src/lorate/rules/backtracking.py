"""The quartic's step with an L that the steps themselves measure."""

from dataclasses import dataclass

from lorate.rules.majorizer import Majorizer


@dataclass(frozen=True)
class Backtracking(Majorizer):
    r"""Monotone descent with nothing to choose: the majorizer's step, L raised where a trial refutes it.

    Each step lowers L to nine tenths, takes the step of `Majorizer` and keeps it if
    $J(V + \eta D) \le J(V) + \varphi(\eta)$; else it raises L to what the trial shows is needed and tries again.
    $\langle G, Q\rangle$ is left to L, so the frozen weights' gradient is not needed. For a loss that is the same
    function at every evaluation (full batch, no dropout); ``optimizer.step(closure)`` evaluates it.

    Attributes:
        smoothness: the first L where the adapters set no scale for it; any positive number will do.
        per_layer: one step size a layer, or one for all.

    Raises:
        LorateError: the first L is not a positive finite number.

    Source: docs/mathematics/smoothness.md, "From trial steps".
    """

    smoothness: float | None = 1.0

    name = "backtracking"
    formula = "the majorizer's step, with an L that every step measures by trying"
    guarantee = "the loss never rises; no L to know"
    use_when = "full batch and a closure: fast, with nothing to know and nothing to tune"
    needs = frozenset({"displacement", "closure"})
