"""One call from the arguments of an experiment to everything the theory says about it."""

import warnings
from dataclasses import dataclass
from typing import Literal

from lorate.errors import LorateError
from lorate_papers.attention.arguments import check
from lorate_papers.attention.effective_noise import active_sequences, fresh_sequences, optimal_beta, reused_sequences
from lorate_papers.attention.finetuning import Finetuning, solve_finetuning
from lorate_papers.attention.pretraining import Pretraining, PretrainingOrder, solve_pretraining
from lorate_papers.attention.softmax_finetuning import finetuned_error, solve_softmax_finetuning
from lorate_papers.attention.softmax_pretraining import SoftmaxPretrainingOrder, solve_softmax_pretraining
from lorate_papers.attention.state_evolution import FinetuningOrder

POINTS = {"linear": 2**13, "softmax": 2**12}


class ReplicaInstabilityWarning(UserWarning):
    """The replica-symmetric solution is unstable: its numbers are not those of the trained adapter."""


@dataclass(frozen=True)
class Prediction:
    """What the theory says about one experiment.

    Attributes:
        pretraining: order parameters of the frozen map.
        finetuning: order parameters of the adapter; None where no fine-tuning was asked for.
        beta: recalibration of the frozen map that was used.
        effective_noise: the noise that fine-tuning saw; None for softmax attention and without fine-tuning.
        error: test error on noise-free labels of fresh sequences, of the last stage asked for.
    """

    pretraining: PretrainingOrder | SoftmaxPretrainingOrder
    finetuning: FinetuningOrder | None
    beta: float
    effective_noise: float | None
    error: float

    @property
    def stable(self) -> bool:
        """False where replica symmetry is broken; then no number of ``finetuning`` nor ``error`` is to be used."""
        return self.finetuning is None or self.finetuning.stable

    def row(self) -> dict[str, float | bool]:
        """The numbers by name, in the order of the stages."""
        order, tuned = self.pretraining, self.finetuning
        row: dict[str, float | bool] = {
            "Q": order.Q,
            "M": order.M,
            "V": order.V,
            "tau": order.tau,
            "Lambda": order.threshold,
            "active": order.active,
        }
        if isinstance(order, PretrainingOrder):
            row["Delta_eff"] = fresh_sequences(order)
            row["Delta_eff_reused"] = reused_sequences(order)
            row["Delta_eff_beta"] = fresh_sequences(order, optimal_beta(order))
        row["train_loss"] = order.train_loss
        row["E_pretrained"] = order.excess_error
        if tuned is not None:
            if self.effective_noise is not None:
                row["Delta_seen"] = self.effective_noise
            row |= {"q": tuned.q, "m": tuned.m, "v": tuned.v, "overlap": tuned.overlap}
            row |= {"lambda_eff": tuned.effective_decay, "AT": tuned.replicon, "jumps": tuned.jumps}
            row |= {"E_finetuned": self.error, "stable": self.stable}
        return row


def linear_error(order: PretrainingOrder, tuned: FinetuningOrder, beta: float = 1.0, centred: bool = True) -> float:
    r"""Test error after fine-tuning with linear attention, on noise-free labels of fresh sequences.

    $$ \frac{T+1}{T}\big(Q_0 - 2 \beta M + \beta^2 Q + q_0^2 - 2 m^2 + q^2\big) + [\text{not centred}]\,
              (q - q_0)^2 / T $$

    Add the noise variance for noisy labels.

    Args:
        order: of the pretraining.
        tuned: of the fine-tuning.
        beta: what the pretrained part is multiplied by.
        centred: as the fine-tuning was, see `Finetuning`.
    """
    T, q0 = order.problem.tokens, tuned.q0
    mismatch = order.problem.Q0 - 2 * beta * order.M + beta**2 * order.Q
    error = (T + 1) / T * (mismatch + q0**2 - 2 * tuned.m**2 + tuned.q**2)
    return error + (0.0 if centred else (tuned.q - q0) ** 2 / T)


def predict(
    alpha: float,
    lam: float,
    *,
    tokens: int = 3,
    kappa0: float = 1.0,
    kappa: float = 1.0,
    noise: float = 0.5,
    attention: Literal["linear", "softmax"] = "linear",
    finetune_alpha: float | None = None,
    finetune_lam: float | None = None,
    reused: bool = False,
    fresh_noise: bool = False,
    beta: float | Literal["optimal"] = 1.0,
    fraction: float | None = None,
    centred: bool = True,
    points: int | None = None,
    seed: int = 0,
) -> Prediction:
    """Predict pre-training and, if asked for, rank-one fine-tuning of the solvable attention model.

    Args:
        alpha: pre-training sequences over the squared dimension.
        lam: weight decay of pre-training.
        tokens: T, at least 2.
        kappa0: width of the teacher over the dimension.
        kappa: width of the student over the dimension.
        noise: variance of the label noise.
        attention: the attention function.
        finetune_alpha: fine-tuning sequences over the dimension; None for pre-training alone.
        finetune_lam: weight decay of fine-tuning; needed with ``finetune_alpha``.
        reused: fine-tune on sequences of pre-training; otherwise on fresh ones.
        fresh_noise: with ``reused``, the labels carry new noise in the second stage.
        beta: recalibration of the frozen map, or "optimal" for the one of least effective noise.
        fraction: choose the fine-tuning sequences actively, this share of a pool; None for no choice.
        centred: the adapter's own mean is subtracted from the attention.
        points: quasi-random points, a power of two (softmax: from 4 on); None for 2**13 (linear) or 2**12 (softmax).
        seed: of the points.

    Raises:
        LorateError: an argument is out of range, or a combination is not covered by the theory.
        NotConverged: the equations have no solution that the solver reaches.

    Warns:
        ReplicaInstabilityWarning: the solution is unstable; ``stable`` is False in the result.

    >>> row = predict(0.1, 0.01, finetune_alpha=3, finetune_lam=0.5, points=2**11).row()
    >>> print(f"{row['Q']:.4f} {row['Delta_eff']:.4f} {row['overlap']:.3f} {row['E_finetuned']:.2f}")
    2.2230 0.6223 0.989 0.56
    """
    problem = Pretraining(alpha, lam, tokens, kappa0, kappa, noise)
    check_options(attention, finetune_alpha, finetune_lam, reused, fresh_noise, beta, fraction)
    _check_solved(attention, fresh_noise, beta, fraction)
    count = POINTS[attention] if points is None else points
    if attention == "softmax":
        prediction = _softmax(problem, finetune_alpha, finetune_lam, reused, centred, count, seed)
    else:
        order = solve_pretraining(problem)
        chosen = optimal_beta(order, reused, fresh_noise) if beta == "optimal" else float(beta)
        if finetune_alpha is None or finetune_lam is None:
            T = tokens
            error = (T + 1) / T * (fresh_sequences(order, chosen) - noise / 2)
            return Prediction(order, None, chosen, None, error)
        if fraction is not None:
            seen = active_sequences(order, fraction)
        else:
            seen = reused_sequences(order, chosen, fresh_noise) if reused else fresh_sequences(order, chosen)
        tuned = solve_finetuning(Finetuning(finetune_alpha, finetune_lam, max(seen, 0.0), tokens, centred), count, seed)
        prediction = Prediction(order, tuned, chosen, seen, linear_error(order, tuned, chosen, centred))
    if not prediction.stable and prediction.finetuning is not None:
        warnings.warn(
            f"replica symmetry is broken (stability {prediction.finetuning.replicon:.3g} is not below 1): "
            "the predicted overlap and error do not hold here; more sequences or weight decay restore it",
            ReplicaInstabilityWarning,
            stacklevel=2,
        )
    return prediction


def _softmax(
    problem: Pretraining, alpha: float | None, lam: float | None, reused: bool, centred: bool, points: int, seed: int
) -> Prediction:
    order = solve_softmax_pretraining(problem, points, seed)
    if alpha is None or lam is None:
        return Prediction(order, None, 1.0, None, order.excess_error)
    tuned = solve_softmax_finetuning(order, alpha, lam, reused=reused, centred=centred, points=points, seed=seed)
    error = finetuned_error(order, tuned, centred=centred, seed=seed + 1)
    return Prediction(order, tuned, 1.0, None, error)


def check_options(
    attention: str,
    alpha: float | None,
    lam: float | None,
    reused: bool,
    fresh_noise: bool,
    beta: float | str,
    fraction: float | None,
) -> None:
    """Raise `LorateError` for options of the two stages that are out of range or make no sense together."""
    if attention not in POINTS:
        raise LorateError(f"attention must be one of {', '.join(POINTS)}; it is {attention!r}")
    if (alpha is None) != (lam is None):
        raise LorateError("finetune_alpha and finetune_lam belong together: give both or neither")
    if fresh_noise and not reused:
        raise LorateError("fresh_noise says something about reused sequences only: add reused, or leave it out")
    if isinstance(beta, str) and (beta != "optimal" or attention == "softmax"):
        raise LorateError(f'beta must be a number, or "optimal" with linear attention; it is {beta!r}')
    if not isinstance(beta, str):
        check("beta", beta, at_least=0)
    if alpha is not None and lam is not None:
        check("finetune_alpha", alpha, above=0)
        check("finetune_lam", lam, at_least=0)
    if fraction is not None:
        check("fraction", fraction, above=0, at_most=1)
    if fraction is not None and reused:
        raise LorateError("fraction chooses among fresh sequences: leave out reused, or fraction")


def _check_solved(attention: str, fresh_noise: bool, beta: float | str, fraction: float | None) -> None:
    """Raise `LorateError` for what can be simulated, but has no theory here."""
    if fraction is not None and beta != 1.0:
        raise LorateError("active selection (fraction) is solved for beta = 1 only")
    if attention == "softmax" and (fresh_noise or beta != 1.0 or fraction is not None):
        raise LorateError("beta, fraction and fresh_noise are solved for linear attention only")
