r"""The feedback that finds the step size: pure arithmetic on a handful of numbers.

The last step moved the adapters by $\delta = \eta\,lr\,D$ and the weights by $\Delta W$. Along it the loss is close to
a parabola. The slope at its end, on a batch that D was not made from, is free at the next step:
$q = \langle g_{t+1}, \delta\rangle$. Its curvature is $C = L\|\Delta W\|^2$, with L from sparse probes. So the
lowest point of the line lies at $x^* = 1 - q / C$ times the step that was taken, and the step size follows it slowly,

$$ \log\eta \leftarrow \log\eta + \kappa_t\,\mathrm{clip}\left(\frac{C\,(lr\,x^* - 1)}{\max(C, R)}, -1, 1\right),
   \qquad \kappa_t = \mathrm{clip}(5/t, 1/20, 1), $$

where R is the root mean square of the recent end slopes: where noise exceeds the curvature, single batches count for
less. In balance the mean end slope is zero whatever L is: a wrong L changes how fast $\eta$ follows, not where it
settles.
Source: docs/auto.md.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

FIRST_LENGTH = 1e-4
"""Length of the first step, root mean square over all trained numbers; it doubles until a curvature is known."""

GAIN_STEPS = 5.0
"""Steps with full gain; afterwards the gain falls as 1/t, which follows any power of t that the best step may take."""
LEAST_GAIN = 0.05
"""What is left of the gain in a long run, so that it can follow data that change."""

PROBE_SHARE = 10
"""A probe comes whenever a tenth of the run so far has gone by: at each of the first 19 steps, then more rarely."""
PROBE_AT_LEAST_EVERY = 10
MEMORY = 0.9
"""Decay of the running means, a probe (curvature) or a step (slopes)."""

OVERSHOOT = 5.0
"""An end slope of so many times R halves the step size at once."""


@dataclass(frozen=True)
class Control:
    r"""What the feedback remembers; plain numbers, so that any checkpoint holds them.

    Attributes:
        eta: the step size $\eta$, before the multiplier ``lr``.
        steps: displacements seen so far.
        smoothness: L, the ratio of the next two where the first was last positive; None before that.
        second_differences: running mean of the probes' second differences of the loss.
        squared_lengths: running mean of $\|\Delta W\|^2$ at these probes.
        start_slopes: running mean of the slope at the start of a displacement, on an unseen batch.
        promised_slopes: of the same on the batch it was made from.
        end_squares: of the squares of the slopes at the end.
        weight: of these three means.
        last_probe: number of the displacement that was probed last.
        probes: evaluations that counted.
        discarded: probes that rounding, or a loss that is not finite, made worthless.
        overshoots: steps after which the step size was halved.
    """

    eta: float
    steps: int = 0
    smoothness: float | None = None
    second_differences: float = 0.0
    squared_lengths: float = 0.0
    start_slopes: float = 0.0
    promised_slopes: float = 0.0
    end_squares: float = 0.0
    weight: float = 0.0
    last_probe: int = 0
    probes: int = 0
    discarded: int = 0
    overshoots: int = 0

    @classmethod
    def first(cls, direction_rms: float) -> Self:
        """Before the first step, from the root mean square of its direction."""
        return cls(FIRST_LENGTH / direction_rms if direction_rms > 0 else FIRST_LENGTH)

    @property
    def signal_fraction(self) -> float | None:
        r"""$\gamma$: true slope over promised slope, at the starts of the last ten displacements or so."""
        if self.promised_slopes >= 0:
            return None
        return float(np.clip(self.start_slopes / self.promised_slopes, 0.0, 1.0))

    @property
    def probe_is_due(self) -> bool:
        """Whether the displacement that is seen next is to be probed."""
        number = self.steps + 1
        pause = min(PROBE_AT_LEAST_EVERY, number // PROBE_SHARE)
        return number - self.last_probe >= max(1, pause)

    @property
    def gain(self) -> float:
        r"""$\kappa_t$ at the displacement seen last."""
        return float(np.clip(GAIN_STEPS / max(self.steps, 1), LEAST_GAIN, 1.0))

    def seen(self) -> Self:
        """One displacement more."""
        return replace(self, steps=self.steps + 1)

    def probed(self, second_difference: float | None, squared_length: float) -> Self:
        r"""After a probe of the displacement seen last.

        Args:
            second_difference: of the loss along it; None if the probe is worthless.
            squared_length: $\|\Delta W\|^2$.
        """
        if second_difference is None:
            return replace(self, last_probe=self.steps, discarded=self.discarded + 1)
        differences = _mean(self.second_differences, second_difference)
        lengths = _mean(self.squared_lengths, squared_length)
        # single probes may see a line that bends down; the last L that did not is the better guess then
        known = differences / lengths if differences > 0 and lengths > 0 else self.smoothness
        return replace(
            self,
            smoothness=known,
            second_differences=differences,
            squared_lengths=lengths,
            last_probe=self.steps,
            probes=self.probes + 1,
        )

    def followed(self, end_slope: float, promised: float, squared_length: float, multiplier: float) -> Self:
        r"""After the end slope of the displacement seen last.

        Args:
            end_slope: $q = \langle g_{t+1}, \delta\rangle$.
            promised: $\langle g_t, \delta\rangle$, on the batch that the direction was made from.
            squared_length: $\|\Delta W\|^2$.
            multiplier: ``lr`` of that step.
        """
        if self.smoothness is None:
            return replace(self, eta=2 * self.eta)
        curvature = self.smoothness * squared_length
        if not curvature > 0:
            return self
        usual = math.sqrt(self.end_squares / self.weight) if self.weight > 0 else math.inf
        end_squares, weight = _mean(self.end_squares, end_slope**2), _mean(self.weight, 1.0)
        if end_slope > OVERSHOOT * usual:
            change, overshoots = -math.log(2), self.overshoots + 1
        else:
            missing = multiplier * (curvature - end_slope) - curvature
            scale = max(curvature, math.sqrt(end_squares / weight))
            change, overshoots = self.gain * float(np.clip(missing / scale, -1, 1)), self.overshoots
        return replace(
            self,
            eta=self.eta * math.exp(change),
            start_slopes=_mean(self.start_slopes, end_slope - curvature),
            promised_slopes=_mean(self.promised_slopes, promised),
            end_squares=end_squares,
            weight=weight,
            overshoots=overshoots,
        )

    def taken_back(self) -> Self:
        """After a step that ended where the loss is not finite: go on with quarter steps, and learn L anew."""
        return replace(
            self,
            eta=self.eta / 4,
            smoothness=None,
            second_differences=0.0,
            squared_lengths=0.0,
            overshoots=self.overshoots + 1,
        )


def _mean(before: float, value: float) -> float:
    return MEMORY * before + (1 - MEMORY) * value
