r"""Mini-batches: what is proved about LoRA steps whose gradients are noisy, for adapters of any size.

The statements are in the scaled factors ($W = W_0 + BA$) and bound the *relative gradient* u, the gradient of each
factor over a normaliser that is known before the batch: $u_l = g_{B,l}/n_l$ with $n_l \ge \|A_l\|_2$ for the factor
that moves (``alternate``), or $u_l = g_l/\sqrt{z_l}$ with $z_l = \|A_l\|_2^2 + \|B_l\|_2^2 + c_l$ for both
(``relative``). A step is $-\theta\hat u$ over the normaliser. Let $\Delta$ be the gap of the loss to its infimum over
all weights, and let the gradient of a batch in the weights be unbiased, with $E\|\hat G - G\|^2 \le \sigma^2$.

Source: docs/mathematics/minibatch.md.
"""

import math

import numpy as np

from lorate.descent.checks import FloatArray, Floats, inverse, non_negative, positive_smoothness
from lorate.errors import LorateError

_CROSS = 4 / (3 * math.sqrt(3))  # the largest value of 2w√(1 - w)


def relative_step_size(
    theta: Floats, a_norm: Floats, b_norm: Floats, offset: Floats, scaling: Floats = 1.0
) -> FloatArray:
    r"""Step size of both factors under ``relative``, $\theta / (s\,(s(\|A\|_2^2 + \|B\|_2^2) + c))$, one per layer.

    Args:
        theta: $\theta$, the step in the coordinates where the loss is $L'$-smooth.
        a_norm: norm of A, spectral or larger, shape ``[layers]`` (all arguments broadcast).
        b_norm: norm of B.
        offset: c > 0, in the unit of $s\|A\|^2$.
        scaling: s > 0.

    Returns:
        Step sizes of A and B, before any scaling is split off.

    >>> relative_step_size(0.1, [3.0, 0.0], 0.0, offset=1.0)
    array([0.01, 0.1 ])
    """
    scale = non_negative("scaling", scaling)
    size = scale * (non_negative("a_norm", a_norm) ** 2 + non_negative("b_norm", b_norm) ** 2)
    return non_negative("theta", theta) * inverse(scale * (size + non_negative("offset", offset)))


def relative_smoothness(smoothness: Floats, gradient_bound: Floats, offset: Floats, reach: Floats = 0.0) -> FloatArray:
    r"""$L' = \max\{L, h/c\} + L\rho\,(\tfrac4{3\sqrt3} + \rho)$, $\rho = R/2c$: smoothness for steps of ``relative``.

    $J(V^+) \le J(V) - \theta\langle u, \hat u\rangle + \tfrac12L'\theta^2\|\hat u\|^2$ for any $\hat u$ and any step
    with $\theta\|\hat u\| \le R$. Under ``alternate`` the same holds with L itself, whatever the step.

    Args:
        smoothness: L > 0.
        gradient_bound: h, at least the spectral norm of every $G_l$ at the points in question.
        offset: c > 0, the smallest $c_l$.
        reach: R, the longest step $\theta\|\hat u\|$; 0 for the limit of short steps.

    Source: docs/mathematics/minibatch.md, Lemma 1.

    >>> float(relative_smoothness(2.0, gradient_bound=6.0, offset=1.0))
    6.0
    """
    constant, offset = positive_smoothness(smoothness), _positive("offset", offset)
    rho = non_negative("reach", reach) / (2 * offset)
    steepest = non_negative("gradient_bound", gradient_bound) / offset
    return np.asarray(np.maximum(constant, steepest) + constant * rho * (_CROSS + rho), dtype=np.float64)


def best_fraction(gap: Floats, smoothness: Floats, noise: Floats, steps: Floats) -> FloatArray:
    r"""$\gamma = \min\{1, \sqrt{2L\Delta/(\sigma^2T)}\}$ for $\theta = \gamma/L$: about the best fraction.

    Arguments as in `mean_square_bound`.

    >>> float(best_fraction(2.0, 1.0, noise=1.0, steps=400))
    0.1
    """
    constant = positive_smoothness(smoothness)
    scale = (
        2 * constant * non_negative("gap", gap) * inverse(non_negative("noise", noise) ** 2 * _positive("steps", steps))
    )
    return np.minimum(1.0, np.sqrt(scale))


def mean_square_bound(gap: Floats, smoothness: Floats, noise: Floats, steps: Floats, fraction: Floats) -> FloatArray:
    r"""Theorem 1: a bound of $\frac1T\sum_{t<T}E\|u_t\|^2$ for $\theta = \gamma/L$.

    $$ \frac1T\sum_{t<T}E\|u_t\|^2 \le \frac{2L\Delta/(\gamma T) + \gamma\sigma^2}{2 - \gamma} $$

    Args:
        gap: $\Delta$.
        smoothness: L for ``alternate``, or L' from `relative_smoothness` with $R = \theta h$ for ``relative``.
        noise: $\sigma$.
        steps: T.
        fraction: $\gamma$ in (0, 1].

    >>> float(mean_square_bound(2.0, 1.0, noise=1.0, steps=400, fraction=0.1).round(4))
    0.1053
    """
    constant, gamma = positive_smoothness(smoothness), _positive("fraction", fraction)
    if np.any(gamma > 1):
        raise LorateError(f"fraction must lie in (0, 1], but it is {fraction!r}.")
    first = 2 * constant * non_negative("gap", gap) / (gamma * _positive("steps", steps))
    return np.asarray((first + gamma * non_negative("noise", noise) ** 2) / (2 - gamma), dtype=np.float64)


def growing_noise_bound(
    gap: Floats, smoothness: Floats, noise: Floats, growth: Floats, steps: Floats, fraction: Floats
) -> FloatArray:
    r"""Theorem 1 for $E\|\hat G - G\|^2 \le \sigma^2 + 2\kappa(F - F^*)$: a bound of $\min_{t<T}E\|u_t\|^2$.

    Args:
        gap: $\Delta$.
        smoothness: L.
        noise: $\sigma$.
        growth: $\kappa$; $\Lambda/b$ for b independent samples of $\Lambda$-smooth losses that are not negative, and
            then $\sigma^2 = 2\Lambda F^*/b$.
        steps: T.
        fraction: $\gamma$ in (0, 1], at most $\sqrt{L/(\kappa T)}$.

    Returns:
        $\dfrac{2eL\Delta/(\gamma T) + \gamma\sigma^2}{2 - \gamma}$; infinite where $\gamma$ is larger than that.
    """
    count, kappa = _positive("steps", steps), non_negative("growth", growth)
    largest = positive_smoothness(smoothness) * (1 + 1e-12)
    allowed = kappa * count * np.asarray(fraction, dtype=np.float64) ** 2 <= largest
    return np.where(allowed, mean_square_bound(math.e * np.asarray(gap), smoothness, noise, steps, fraction), np.inf)


def adagrad_bound(
    gap: float, smoothness: float, noise: float, steps: int, reach: float, start: float, *, coin: bool = False
) -> float:
    r"""Theorem 2: a bound of $E\min_{t<T}\|u_t\|$ when nothing is known beforehand.

    The step is $\theta_t = R/b_t$ with $b_t^2 = b_0^2 + \sum_{k\le t}\|\hat u_k\|^2$. The bound is $x/\sqrt T$
    with the only solution of $x = \sqrt2\,C(x) + \sqrt{C(x)(b_0 + \sigma + \sigma\sqrt{2T})}$,

    $$ C(x) = \tfrac2R\bigl[\Delta + (4\sigma R + L'R^2)\ln(1 + (\sigma\sqrt{2T} + \sqrt2x)/b_0)\bigr] . $$

    Args:
        gap: $\Delta$.
        smoothness: L for ``alternate``, or L' from `relative_smoothness` with this R for ``relative``.
        noise: $\sigma$.
        steps: T.
        reach: R > 0.
        start: $b_0$ > 0.
        coin: the factor that moves is chosen by a fair coin, and u is the relative gradient of both.

    >>> adagrad_bound(1.0, 1.0, 0.0, 10_000, reach=1.0, start=1.0) < adagrad_bound(1.0, 1.0, 0.0, 100, 1.0, 1.0)
    True
    """
    constant, radius = float(positive_smoothness(smoothness)), float(_positive("reach", reach))
    first, sigma = float(_positive("start", start)), float(non_negative("noise", noise))
    spread, weight = sigma * math.sqrt(2 * steps), 4 * sigma * radius + constant * radius**2

    def right_side(x: float) -> float:
        C = 2 / radius * (gap + weight * math.log1p((spread + math.sqrt(2) * x) / first)) * (2 if coin else 1)
        return math.sqrt(2) * C + math.sqrt(C * (first + sigma + spread))

    x = 1.0
    while right_side(x) > x:  # it is concave: one solution, and this ends beyond it
        x *= 2
    for _ in range(200):  # and from there descends to it
        x = right_side(x)
    return x * (1 + 1e-12) / math.sqrt(steps)


def raw_gradient_bound(
    gap: float, smoothness: float, noise: float, steps: int, theta: float,
    start_sq: float, offset: float, largest_offset: float, layers: int,
) -> tuple[float, float]:  # fmt: skip
    r"""Theorem 3, $z_l = \|V_l\|_F^2 + c_l$: bounds of $\frac1T\sum_{t<T}E\|\nabla J_t\|$ and of every $E\|V_t\|^2$.

    Args:
        gap: $\Delta$.
        smoothness: L' from `relative_smoothness`, at least the one for $R = \theta h$.
        noise: $\sigma$.
        steps: T.
        theta: $\theta \le 1/L'$.
        start_sq: $\|V_0\|^2$ of the scaled factors.
        offset: the smallest $c_l$.
        largest_offset: the largest.
        layers: K.

    Returns:
        $\sqrt{\varepsilon(Y + \max_lc_l)}$ with $\varepsilon$ from `mean_square_bound`, and
        $Y = \|V_0\|^2 + 2\sqrt K\theta T\sqrt\varepsilon + \tfrac{\theta^2T}c(\varepsilon + \tfrac14\sigma^2)$.
    """
    square = float(mean_square_bound(gap, smoothness, noise, steps, theta * smoothness))
    length = start_sq + 2 * math.sqrt(layers) * theta * steps * math.sqrt(square)
    length += theta**2 * steps / offset * (square + noise**2 / 4)
    return math.sqrt(square * (length + largest_offset)), length


def _positive(name: str, values: Floats) -> FloatArray:
    array = non_negative(name, values)
    if np.any(array == 0):
        raise LorateError(f"{name} must be positive, but it is {values!r}.")
    return array
