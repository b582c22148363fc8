"""The record of one optimizer step."""

from dataclasses import dataclass

from lorate.measurement import Measurement


@dataclass(frozen=True)
class Step:
    """What the last call of ``optimizer.step()`` saw and did.

    Attributes:
        number: steps called so far, skipped ones included; the first is 1.
        measurement: lengths before the step.
        eta: step size in force, multiplier included; 0 if skipped.
        lr: the multiplier: ``lr`` times damping of the first group (along a direction: of the first that moves).
        sum_eta: sum of ``eta`` over all steps so far.
        skipped: why the step was not taken; None if it was.
        guarantee: decrease of the loss that is proved for this step, if the loss is the same function at every
            evaluation (full batch) and the rule's L is right; None if the rule proves nothing, the frozen weights'
            gradient is only sketched, a layer has dropout, or the multiplier is above 1 or not the same for all (which
            rules ``majorizer`` and ``backtracking`` take into their direction).
        standing: layers that did not move because their own direction does not descend.
        smoothness: the L in force, of rule ``backtracking``; None for the others.
        evaluations: evaluations of the closure in this step.
        average_slope: how the loss of this batch changes if all recent steps had been longer, for the averaged
            adapters and in units of its root mean square: what steers rule ``auto``.
    """

    number: int
    measurement: Measurement
    eta: float
    lr: float
    sum_eta: float
    skipped: str | None = None
    guarantee: float | None = None
    standing: int = 0
    smoothness: float | None = None
    evaluations: int = 0
    average_slope: float | None = None
