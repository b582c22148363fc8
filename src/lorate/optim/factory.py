"""Build an optimizer from a model, in the shape that PEFT's users know."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from lorate import sharding
from lorate.adapters import LoraPair, NotPlain, find_pairs, plain_pairs, rest_parameters
from lorate.errors import LorateError
from lorate.gradient_norm import GradientCapture, Method
from lorate.optim.direction import DirectionFactory
from lorate.optim.layout import layers_of, param_groups
from lorate.optim.optimizer import LoraOptimizer
from lorate.optim.replay import TrainingForward
from lorate.optim.twins import join_twins
from lorate.rules import Rule, make_rule
from lorate.rules.rule import LORA_NEEDS


def create_optimizer(
    model: nn.Module,
    rule: str | Rule = "auto",
    *,
    lr: float | None = None,
    smoothness: float | None = None,
    gradient_norm: Method | None = None,
    direction: DirectionFactory | None = None,
    groups: Iterable[dict[str, Any]] | None = None,
) -> LoraOptimizer:
    r"""An optimizer for the LoRA adapters of a model, and for all else that is trainable in it.

    Args:
        model: a PEFT model (or a module with PEFT's LoRA layers), with one active, trainable adapter. Rules ``auto``,
            ``normalized``, ``adaptive-loss`` and ``constant`` train anything: other methods of PEFT, several active
            adapters, whole models.
        rule: the rule: a name (see `lorate.RULES` or ``lorate rules``) or a `Rule`.
        lr: the rule's constant ``a``, 1.0 by default; required for ``constant``. Schedulers multiply it.
        smoothness: L of the loss, for ``theory``, ``sharp``, ``one-factor`` and ``majorizer``; ``backtracking``
            needs none (and uses it only if the adapters set no scale).
        gradient_norm: how rules that need the frozen weights' gradient measure it: ``"exact"``, or by a cheap random
            ``"sketch"``, which may steer a step but proves nothing. By default ``adaptive`` sketches and ``theory``,
            ``sharp`` and ``majorizer`` are exact.
        direction: for ``auto``, ``majorizer`` and ``backtracking``: step along the direction of another torch
            optimizer. Called with a list of tensors, it builds that optimizer: ``torch.optim.AdamW``, or
            ``functools.partial(torch.optim.AdamW, weight_decay=0)``.
        groups: param groups with an ``lr`` of their own, as for any torch optimizer; parameters that they leave out
            get ``lr``.

    Returns:
        A `torch.optim.Optimizer`; that of ``backtracking`` needs ``optimizer.step(closure)``.

    Raises:
        LorateError: nothing to train, no LoRA layers where the rule needs them, frozen ones, parameters that ZeRO-3 or
            the first FSDP hides, an unknown rule, a missing constant, an option that the rule does not use, or a rule
            whose theory does not hold for a layer.

    Examples:
        >>> import peft, torch, lorate
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
        >>> model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0"]))
        >>> optimizer = lorate.create_optimizer(model, rule="adaptive-loss")
        >>> loss = model(torch.ones(5, 4)).square().mean()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> optimizer.last.eta > 0
        True
    """
    if not isinstance(model, nn.Module):
        raise LorateError(f"create_optimizer takes the model itself, not its parameters; got a {type(model).__name__}")
    rule = make_rule(rule, smoothness)
    sharding.refuse_unreadable(model)
    pairs = _lora_pairs(rule, model) if rule.needs & LORA_NEEDS else plain_pairs(model)
    twins = join_twins(model)
    pairs = [pair for pair in pairs if not twins & {id(pair.A), id(pair.B)}]
    rest = {name: p for name, p in rest_parameters(model, pairs).items() if id(p) not in twins}
    if not pairs and not rest:
        raise LorateError(
            "nothing in the model is trainable: wrap it with peft.get_peft_model, or load adapters with "
            "is_trainable=True"
        )
    optimizer = LoraOptimizer(
        param_groups(pairs, rest.values(), groups),
        layers_of(pairs),
        rule,
        lr,
        direction=direction,
        weight_gradient=_weight_gradient(rule, pairs, gradient_norm),
        forward=TrainingForward(model, pairs[0].layer if pairs else _inner_layer(model)),
    )
    optimizer.use_last()
    return optimizer


def _lora_pairs(rule: Rule, model: nn.Module) -> list[LoraPair]:
    instead = "'auto', 'adaptive-loss', 'normalized' or 'constant'"
    try:
        pairs = find_pairs(model)
    except NotPlain as error:
        raise LorateError(
            f"{error}; rule {rule.name!r} rests on that: use {instead}, or plain LoRA on Linear, Conv2d and Embedding "
            "layers"
        ) from error
    dora = [pair.name for pair in pairs if pair.dora]
    if dora:
        raise LorateError(
            f"rule {rule.name!r} rests on W = W0 + s B A, which does not hold for DoRA layers ({dora[0]} and "
            f"{len(dora) - 1} more); use {instead}, or LoRA without DoRA"
        )
    return pairs


def _inner_layer(model: nn.Module) -> nn.Module:
    """A layer that computes with floating-point numbers of its own, whose input shows the precision."""
    passive = (nn.ParameterDict, nn.ParameterList, nn.Embedding)
    for module in model.modules():
        own = next(module.parameters(recurse=False), None)
        if own is not None and own.is_floating_point() and not isinstance(module, passive):
            return module
    return model


def _weight_gradient(rule: Rule, pairs: list[LoraPair], method: Method | None) -> GradientCapture | None:
    if "weight-gradient" in rule.needs:
        return GradientCapture(pairs, method=method or rule.gradient_norm)
    if method is not None:
        raise LorateError(f"rule {rule.name!r} does not measure the frozen weights' gradient; leave gradient_norm out")
    return None
