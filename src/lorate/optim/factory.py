"""Build an optimizer from a model, in the shape that PEFT's users know."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from lorate.adapters import LoraPair, find_pairs, rest_parameters
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture
from lorate.optim.gradient_descent import LoraGradientDescent
from lorate.optim.layout import layers_of, param_groups
from lorate.rates import Rate, make_rate


def create_optimizer(
    model: nn.Module,
    rate: str | Rate = "adaptive-loss",
    *,
    lr: float | None = None,
    smoothness: float | None = None,
    groups: Iterable[dict[str, Any]] | None = None,
) -> LoraGradientDescent:
    r"""An optimizer for the LoRA adapters of a model, and for all else that is trainable in it.

    Args:
        model: a PEFT model (or a module with PEFT's LoRA layers), with one active, trainable adapter.
        rate: the rule: a name (see `lorate.RATES` or ``lorate rules``) or a `Rate`.
        lr: the rule's constant ``a``, 1.0 by default; required for ``constant``. Schedulers multiply it.
        smoothness: L of the loss, for ``theory``.
        groups: param groups with an ``lr`` of their own, as for any torch optimizer; parameters that they leave out
            get ``lr``.

    Returns:
        A `torch.optim.Optimizer`.

    Raises:
        LorateError: no LoRA layers, frozen ones, an unknown rule, a missing constant, or a rule whose theory does not
            hold for a layer of the model.

    Example:
        >>> import peft, torch, lorate
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
        >>> model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0"]))
        >>> optimizer = lorate.create_optimizer(model, rate="adaptive-loss")
        >>> loss = model(torch.ones(5, 4)).square().mean()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> optimizer.last.eta > 0
        True
    """
    rule = make_rate(rate, smoothness)
    pairs = find_pairs(model)
    capture = _weight_gradient(rule, pairs)
    rest = rest_parameters(model, pairs).values()
    return LoraGradientDescent(param_groups(pairs, rest, groups), layers_of(pairs), rule, lr, capture)


def _weight_gradient(rule: Rate, pairs: list[LoraPair]) -> GradientCapture | None:
    if "weight-gradient" not in rule.needs:
        return None
    if dora := [pair.name for pair in pairs if pair.dora]:
        raise LorateError(
            f"rate {rule.name!r} rests on W = W0 + s B A, which does not hold for DoRA layers ({dora[0]} and "
            f"{len(dora) - 1} more); use 'adaptive-loss', 'normalized' or 'constant', or LoRA without DoRA"
        )
    capture = GradientCapture(pairs, method="exact")
    capture.attach()
    return capture
