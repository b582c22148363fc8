"""The whole pipeline at finite dimension, and its comparison with the theory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lorate_papers.attention.effective_noise import optimal_beta
from lorate_papers.attention.prediction import Prediction, check_options, predict
from lorate_papers.attention.pretraining import Pretraining, solve_pretraining
from lorate_papers.attention.simulation.data import AttentionName, draw_instance
from lorate_papers.attention.simulation.finetune import clean_error, finetune_adapter, finetuning_data
from lorate_papers.attention.simulation.pretrain import pretrain_map, train_loss


@dataclass(frozen=True)
class Simulation:
    """Measured numbers, by the names of `Prediction.row`, each of shape ``[seeds]``."""

    values: dict[str, Tensor]

    def mean(self, name: str) -> float:
        """Mean over the seeds."""
        return float(self.values[name].mean())

    def standard_error(self, name: str) -> float:
        """Standard error of the mean; nan for a single seed."""
        value = self.values[name]
        return float(value.std() / math.sqrt(len(value))) if len(value) > 1 else math.nan


def simulate(
    alpha: float,
    lam: float,
    *,
    dimension: int,
    seeds: Sequence[int],
    tokens: int = 3,
    kappa0: float = 1.0,
    kappa: float = 1.0,
    noise: float = 0.5,
    attention: AttentionName = "linear",
    finetune_alpha: float | None = None,
    finetune_lam: float | None = None,
    reused: bool = False,
    fresh_noise: bool = False,
    beta: float | Literal["optimal"] = 1.0,
    fraction: float | None = None,
    centred: bool = True,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Simulation:
    """Train both stages on random data, all seeds in parallel.

    All other arguments as in `predict`; ``beta="optimal"`` takes the value of the theory. The map is trained by
    `pretrain_map`, which keeps the full rank: kappa sets the strength of the weight decay only. ``dimension`` is D, and
    there is a run for each of ``seeds``. ``dtype``: float64, or float32 where ``device`` has no fast double precision.

    Raises:
        LorateError: an argument is out of range, or more sequences are to be reused than pre-training has.
    """
    check_options(attention, finetune_alpha, finetune_lam, reused, fresh_noise, beta, fraction)
    problem = Pretraining(alpha, lam, tokens, kappa0, kappa, noise)
    instance = draw_instance(problem, dimension, seeds, attention, device, dtype)
    learned = pretrain_map(instance, tolerance=1e-7 if dtype == torch.float64 else 1e-5)
    Q, M, Q0 = learned.order(instance)
    values = {
        "Q": Q,
        "M": M,
        "Q0": Q0,
        "train_loss": train_loss(instance, learned.S) / instance.x.shape[1],
        "E_pretrained": clean_error(instance, learned.S),
    }
    if finetune_alpha is not None and finetune_lam is not None:
        if beta == "optimal":
            beta = optimal_beta(solve_pretraining(problem), reused, fresh_noise)
        S = beta * learned.S
        data = finetuning_data(
            instance, S, finetune_alpha, reused=reused, fresh_noise=fresh_noise, fraction=fraction, centred=centred
        )
        tuned = finetune_adapter(data, finetune_lam, centred)
        values |= {"q": tuned.q, "m": tuned.m, "overlap": tuned.overlap}
        values["E_finetuned"] = clean_error(instance, S, tuned.w, centred)
    return Simulation({name: value.cpu() for name, value in values.items()})


@dataclass(frozen=True)
class Comparison:
    """One number, predicted and measured.

    Attributes:
        name: as in `Prediction.row`.
        theory: the prediction, for D to infinity.
        mean: of the simulations, over the seeds.
        standard_error: of that mean; nan for a single seed.
    """

    name: str
    theory: float
    mean: float
    standard_error: float


def compare(
    *,
    dimension: int,
    seeds: Sequence[int],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
    **arguments: Any,
) -> tuple[Prediction, list[Comparison]]:
    """Predict and simulate the same experiment.

    Args:
        dimension: D of the simulation.
        seeds: one run a seed.
        device: of the simulation.
        dtype: of the simulation.
        arguments: those of `lorate_papers.attention.predict`.

    Returns:
        The prediction, and its numbers next to the measured ones.

    Raises:
        LorateError: what `predict` or `simulate` refuses.
        NotConverged: the equations have no solution that the solver reaches.
    """
    prediction = predict(**arguments)
    shared = {name: value for name, value in arguments.items() if name not in ("points", "seed")}
    measured = simulate(dimension=dimension, seeds=seeds, device=device, dtype=dtype, **shared)
    rows = [
        Comparison(name, float(value), measured.mean(name), measured.standard_error(name))
        for name, value in prediction.row().items()
        if name in measured.values
    ]
    return prediction, rows
