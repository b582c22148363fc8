r"""The feedback that finds the step size: pure arithmetic on a handful of numbers.

The run ends with the average x of its adapters. Had all recent steps been longer by a small factor, x would have moved
by $s_x = \partial x / \partial\log\eta$ per unit of that factor. The next gradient, on a batch that no step has seen,
tells for free what that would do to the loss: its slope $c = \langle g_{t+1}, s_x\rangle$, a noisy number. In units of
its root mean square, $r = c / R$, it moves the step size slowly:

$$ \log\eta \leftarrow \log\eta - \kappa_t\,\mathrm{clip}(r - r_t^*, -1, 1), \qquad
   r_t^* = \frac{10}{t + 10 + 20\,u_t}, \qquad
   \kappa_t = \mathrm{clip}(3/t,\ 0.03,\ 0.5). $$

The aim $r^*$ begins near 1, since the first step is far too short. It fades with the steps and, faster, with evidence
that they are long enough: u is the sum of all $\mathrm{clip}(r - r^*, 0, 1)$ so far. A slope of more than 8 times its
usual size counts as 8 times in R, so that one batch does not hide those after it; uphill it halves $\eta$.
Source: docs/auto.md.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

FIRST_LENGTH = 1e-4
"""Length of the first step, root mean square over all trained numbers."""

AIM_STEPS = 10.0
"""The aim is this over t plus this,"""
AIM_UPHILL = 20.0
"""and t grows by so many steps more for each slope that is above the aim by 1 or more."""
GAIN_STEPS = 3.0
"""The gain is 3/t, which follows any power of t that the best step may take,"""
LARGEST_GAIN = 0.5
LEAST_GAIN = 0.03
"""and at least this in a long run, so that it can follow data that change."""
LIMIT = 1.0
"""Largest distance between a slope and its aim that counts."""
MEMORY = 0.9
"""Decay of the running mean squares, a step."""

OVERSHOOT = 8.0
"""An uphill slope of so many times its root mean square halves the step size at once; none counts as more than that."""


@dataclass(frozen=True)
class Control:
    r"""What the feedback remembers; plain numbers, so that any checkpoint holds them.

    Attributes:
        eta: the step size $\eta$, before the multiplier ``lr``.
        steps: slopes followed so far.
        slope: r of the last one; None before the first.
        uphill: u, by how much slopes were above the aim, in sum.
        average_squares: running mean of the squares of c.
        end_squares: of $(q / \eta)^2$, with the end slope q of the last displacement.
        weight: of these two means.
        overshoots: steps after which the step size was cut.
        highest: the largest multiplier so far.
    """

    eta: float
    steps: int = 0
    slope: float | None = None
    uphill: float = 0.0
    average_squares: float = 0.0
    end_squares: float = 0.0
    weight: float = 0.0
    overshoots: int = 0
    highest: float = 0.0

    @classmethod
    def first(cls, direction_rms: float) -> Self:
        """Before the first step, from the root mean square of its direction, which is not zero."""
        return cls(FIRST_LENGTH / direction_rms)

    @property
    def aim(self) -> float:
        """$r^*$ at the next slope."""
        return AIM_STEPS / (self.steps + 1 + AIM_STEPS + AIM_UPHILL * self.uphill)

    @property
    def gain(self) -> float:
        r"""$\kappa_t$ at the next slope."""
        return float(np.clip(GAIN_STEPS / (self.steps + 1), LEAST_GAIN, LARGEST_GAIN))

    def followed(self, average_slope: float, end_slope: float, multiplier: float) -> Self:
        """After a step: what a batch that it has not seen says of it.

        While a schedule is below its highest, the step size stays as it is: it would work against the schedule. Not so
        on the way up, for as many steps as the gain falls, until the schedule has halved: it may fall from the first
        step on.

        Args:
            average_slope: c.
            end_slope: q, along the last displacement.
            multiplier: ``lr`` of that step.
        """
        usual_average, usual_end = (
            math.sqrt(squares / self.weight) if squares > 0 else math.inf
            for squares in (self.average_squares, self.end_squares)
        )
        end_slope = end_slope / self.eta
        overshot = end_slope > OVERSHOOT * usual_end or average_slope > OVERSHOOT * usual_average
        average_slope, end_slope = _limited(average_slope, usual_average), _limited(end_slope, usual_end)
        weight = _mean(self.weight, 1.0)
        squares = _mean(self.average_squares, average_slope * average_slope)
        if average_slope == 0 or squares == 0:  # no gradient, no opinion
            return self
        slope = average_slope / math.sqrt(squares / weight)
        excess = float(np.clip(slope - self.aim, -LIMIT, LIMIT))
        change = -math.log(2) if overshot else -self.gain * excess
        is_low = multiplier < self.highest and (self.gain <= LEAST_GAIN or multiplier <= self.highest / 2)
        if is_low and not overshot:
            change = 0.0
        return replace(
            self,
            eta=self.eta * math.exp(change),
            steps=self.steps + 1,
            slope=slope,
            uphill=self.uphill + max(0.0, excess),
            average_squares=squares,
            end_squares=_mean(self.end_squares, end_slope * end_slope),
            weight=weight,
            overshoots=self.overshoots + overshot,
            highest=max(self.highest, multiplier),
        )

    def taken_back(self) -> Self:
        """After a step that ended where the loss is not finite: go on with quarter steps."""
        return replace(self, eta=self.eta / 4, overshoots=self.overshoots + 1)


def _limited(slope: float, usual: float) -> float:
    """So that one batch does not set the scale for the next thirty: at most a multiple of the usual slope."""
    return float(np.clip(slope, -OVERSHOOT * usual, OVERSHOOT * usual))


def _mean(before: float, value: float) -> float:
    return MEMORY * before + (1 - MEMORY) * value
