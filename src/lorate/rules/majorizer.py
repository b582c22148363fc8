"""The best step of the quartic upper bound of the loss."""

from dataclasses import dataclass, replace

import numpy as np

from lorate.descent import length_from_above, majorizer_change, majorizer_step_size
from lorate.measurement import Array, Measurement
from lorate.rules.line import Line
from lorate.rules.rule import Rule, check_smoothness
from lorate.rules.step_sizes import StepSizes

Terms = tuple[Array, Array, Array, Array, Array]


@dataclass(frozen=True)
class Majorizer(Rule):
    r"""Minimises an upper bound of the loss along any direction D (full batch, right L).

    $$ \varphi(\eta) = \eta\langle g, D\rangle + \eta^2\langle G, Q\rangle
         + \tfrac L2\left(\eta^2\|P\|^2 + 2\eta^3\langle P, Q\rangle + \eta^4\|Q\|^2\right) $$

    Each layer takes the step that makes its own quartic smallest, and the other trainable parameters theirs; with
    ``per_layer=False`` all take the step that makes the sum smallest. What is proved is $-\varphi$ at the steps taken,
    also with a multiplier; the optimizer claims it up to 1. $\langle G, Q\rangle$ is exact by default; from a sketch it
    steers and nothing is proved. A layer with $\langle g, D\rangle \ge 0$ does not move in the first case.

    Attributes:
        smoothness: L, jointly in all trained weights; > 0.
        per_layer: one step size per layer, or one for all.

    Raises:
        LorateError: L is missing, not finite or not positive.

    Source: docs/mathematics/majorizer.md, Theorem 1.
    """

    smoothness: float | None = None
    per_layer: bool = True

    name = "majorizer"
    formula = "η_l = a·argmin η⟨g,D⟩ + η²⟨G,Q⟩ + (L/2)‖ηP + η²Q‖² for each layer"
    guarantee = "each full-batch step descends by minus this minimum, at least as much as sharp and theory"
    use_when = "known L and the fastest proved step, also along the direction of another optimizer"
    needs = frozenset({"weight-gradient", "smoothness", "displacement"})
    allows_direction = True

    def __post_init__(self) -> None:
        check_smoothness(self.name, self.smoothness)

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """Step sizes along the direction that was measured; a refusal if it does not descend or moves no weight."""
        assert self.smoothness is not None and measurement.displacement is not None
        d = measurement.displacement
        terms = quartic_terms(measurement)
        slope, _, pp, _, qq = terms
        whole = terms if self.per_layer else _summed(terms)
        common = majorizer_step_size(*whole, self.smoothness, precision=d.precision)
        common = np.broadcast_to(np.where(np.isfinite(common), common, 0.0), slope.shape)
        # the mean that keeps the linear decrease, as for the other rules
        falling = np.maximum(-slope, 0.0)
        total = falling.sum() if self.per_layer else 0.0
        eta = float(common @ falling / total) if total > 0 else float(common.max())
        standing = int(np.sum((slope >= 0) & (pp + qq > 0))) if self.per_layer else 0
        change = float(majorizer_change(common, *terms, self.smoothness).sum())
        sizes = StepSizes(eta, common[:-1] * d.unit, float(common[-1]), -change, standing)
        return replace(sizes, refusal=_no_descent(terms, sizes))

    def proved_decrease(self, measurement: Measurement, sizes: StepSizes, multiplier: float) -> float | None:
        r"""$-\varphi$ of the whole step: the bound holds for any multiplier."""
        assert self.smoothness is not None and measurement.displacement is not None
        terms = terms_of_step(measurement, sizes, multiplier)
        return -float(majorizer_change(1.0, *terms, self.smoothness))


def quartic_terms(m: Measurement) -> Terms:
    r"""Slope, $\langle G, Q\rangle$, $\|P\|^2$, $\langle P, Q\rangle$, $\|Q\|^2$ for a common step of 1.

    Returns:
        Five arrays ``[layers + 1]``; the last entry is that of the other trainable parameters. The squared lengths are
        from above, see `lorate.descent.length_from_above`.
    """
    d = m.displacement
    assert d is not None
    u = d.unit
    p_terms = m.scaling * (np.sqrt(d.B_sq * m.A_sq) + np.sqrt(m.B_sq * d.A_sq))
    pp = length_from_above(d.pp, p_terms, d.precision)
    qq = length_from_above(d.qq, m.scaling * np.sqrt(d.B_sq * d.A_sq), d.precision)
    return (
        np.append(d.slope * u, d.rest_slope),
        np.append(d.gradient_q * u**2, 0.0),
        np.append(pp * u**2, d.rest_sq),
        np.append(d.pq * u**3, 0.0),
        np.append(qq * u**4, 0.0),
    )


def terms_of_step(m: Measurement, sizes: StepSizes, multiplier: float) -> Terms:
    """The five terms of the whole displacement that ``multiplier`` times these steps make.

    Returns:
        Scalars: what `lorate.descent.majorizer_change` and `lorate.descent.required_smoothness` need for a step of 1.
    """
    assert m.displacement is not None
    steps = multiplier * np.append(sizes.layers / m.displacement.unit, sizes.rest)
    slope, gradient_q, pp, pq, qq = quartic_terms(m)
    return _summed((slope * steps, gradient_q * steps**2, pp * steps**2, pq * steps**3, qq * steps**4))


def _summed(terms: Terms) -> Terms:
    slope, gradient_q, pp, pq, qq = (np.asarray(term.sum()) for term in terms)
    return slope, gradient_q, pp, pq, qq


def _no_descent(terms: Terms, sizes: StepSizes) -> str | None:
    """Why no step size is positive, if so."""
    if np.any(sizes.layers > 0) or sizes.rest > 0:
        return None
    slope, _, pp, _, qq = terms
    if slope.sum() >= 0:
        return f"the direction does not descend: its slope ⟨g, D⟩ = {slope.sum():.3g} is not negative"
    if np.all((pp == 0) & (qq == 0)):
        return "the direction does not move the weights (P = Q = 0)"
    return "the step is infinite: the direction has a slope, but moves the weights by less than can be measured"
