"""Find the LoRA factors of a PEFT model: one pair (A, B) with its scaling for every adapted matrix.

The layers are recognised by what they hold (``lora_A``, ``lora_B``, ``scaling``), so PEFT itself is not imported.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any, Literal

from torch import Tensor, nn

from lorate import sharding
from lorate.errors import LorateError

Kind = Literal["linear", "conv2d", "embedding"]


@dataclass(frozen=True, eq=False)
class LoraPair:
    """One adapted matrix ``W = W0 + scaling * B @ A``, with A and B as PEFT stores them.

    Attributes:
        name: path of the adapted layer in the model.
        adapter: name of the PEFT adapter.
        kind: ``"linear"``: A ``[r, n]``, B ``[m, r]``; ``"conv2d"``: A ``[r, C_in, kh, kw]``,
            B ``[m, r / groups, 1, 1]``; ``"embedding"``: A ``[r, tokens]``, B ``[dim, r]``.
        layer: PEFT's layer; ``layer.base_layer`` is the frozen one.
        A: first factor.
        B: second factor.
        scaling: s > 0, that is ``lora_alpha / r``, or ``lora_alpha / sqrt(r)`` with rsLoRA.
        groups: blocks of a grouped convolution; block i is one product ``B_i @ A_i``.
        dropout: probability with which PEFT drops the input of A.
        dora: whether the layer is a DoRA layer, ``W = magnitude * direction(W0 + s B A)``.
    """

    name: str
    adapter: str
    kind: Kind
    layer: nn.Module
    A: nn.Parameter
    B: nn.Parameter
    scaling: float
    groups: int = 1
    dropout: float = 0.0
    dora: bool = False

    @property
    def rank(self) -> int:
        """Number of rows of A: the rank r of the adapter."""
        return self.A.shape[0]


def factor_blocks(A: Tensor, B: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """View a pair as stacks of plain matrices, one a group.

    Args:
        A: first factor, or its gradient or displacement, as PEFT stores it, ``[r, ...]``.
        B: second factor likewise, ``[m, r / groups, ...]``.
        groups: number of groups of the convolution, 1 for everything else.

    Returns:
        A as ``[groups, r / groups, n]`` and B as ``[groups, m / groups, r / groups]``.

    >>> import torch
    >>> A, B = factor_blocks(torch.zeros(4, 3, 2, 2), torch.zeros(10, 2, 1, 1), groups=2)
    >>> tuple(A.shape), tuple(B.shape)
    ((2, 2, 12), (2, 5, 2))
    """
    return A.reshape(groups, A.shape[0] // groups, -1), B.reshape(groups, B.shape[0] // groups, -1)


class NotPlain(LorateError):
    """A layer is not trained as W = W0 + s B A."""


def find_pairs(model: nn.Module, adapter: str | None = None) -> list[LoraPair]:
    """List every LoRA pair of the active adapter, in the order of ``model.named_modules()``.

    Args:
        model: a PEFT model, or any module that holds PEFT's LoRA layers (``torch.compile`` included).
        adapter: the adapter to take; the active one if not given.

    Returns:
        One pair an adapted matrix; never empty.

    Raises:
        LorateError: the model has no LoRA layer or is wrapped in another method, the adapter is unknown, frozen,
            merged, switched off, tied or has a scaling that is not positive, or a layer is of a kind for which
            ``W = W0 + s B A`` does not hold as trained here.
    """
    other = ", ".join(method for method in methods(model) if method != "LORA")
    if other:
        raise NotPlain(
            f"the model is wrapped in PEFT's {other}, which does not train W = W0 + s B A as plain LoRA does"
        )
    layers = _lora_layers(model)
    if not layers:
        raise LorateError(
            "the model has no LoRA layers; wrap it first: peft.get_peft_model(model, peft.LoraConfig(...))"
        )
    adapter = adapter or _active_adapter([module for _, module in layers])
    pairs = [pair for name, layer in layers if (pair := _pair(name, layer, adapter)) is not None]
    if not pairs:
        known = sorted({key for _, layer in layers for key in layer.scaling})
        raise LorateError(f"no LoRA layer holds the adapter {adapter!r}; the model has: {', '.join(known)}")
    _refuse_frozen(pairs)
    _refuse_tied(pairs)
    return pairs


def plain_pairs(model: nn.Module) -> list[LoraPair]:
    """The trainable pairs of all active adapters that are trained as W = W0 + s B A; perhaps none.

    Whatever else is trainable, in layers of other kinds and by other methods, is left to `rest_parameters`.

    Raises:
        LorateError: adapters are merged, switched off, all frozen, or have a scaling that is not positive.
    """
    for name, module in model.named_modules():
        if isinstance(getattr(module, "disable_adapters", None), bool):  # transformers has a method of that name
            _refuse_unused(_plain_name(name), module)
    pairs = []
    for name, layer in _lora_layers(model):
        for adapter in layer.active_adapters:
            with suppress(NotPlain):
                pair = _pair(name, layer, adapter)
                pairs += [] if pair is None else [pair]
    trained = [pair for pair in pairs if pair.A.requires_grad and pair.B.requires_grad]
    if not any(factor.requires_grad for pair in pairs for factor in (pair.A, pair.B)):
        _refuse_frozen(pairs)
    return trained


def methods(model: nn.Module) -> list[str]:
    """PEFT's names of the methods that a model is wrapped in.

    >>> methods(nn.Linear(1, 1))
    []
    """
    configs = [config for module in model.modules() for config in _configs(module)]
    return list(dict.fromkeys(getattr(c.peft_type, "value", str(c.peft_type)) for c in configs))


def rest_parameters(model: nn.Module, pairs: list[LoraPair]) -> dict[str, nn.Parameter]:
    """Trainable parameters that are not LoRA factors (heads, ``modules_to_save``, magnitudes, biases), by name.

    Args:
        model: the model that ``pairs`` came from.
        pairs: what `find_pairs` returned.
    """
    factors = {id(p) for pair in pairs for p in (pair.A, pair.B)}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in factors:
            plain = _plain_name(name)
            rest[name if plain in rest else plain] = parameter  # one that loses its name is not trained
    return rest


def _plain_name(name: str) -> str:
    """Drop what DDP puts in front of a name, and torch.compile wherever it was applied."""
    outside = ("_orig_mod", "module")
    return ".".join(p for p in dropwhile(lambda part: part in outside, name.split(".")) if p != "_orig_mod")


def _configs(module: Any) -> list[Any]:
    found = getattr(module, "peft_config", None)
    return [config for config in found.values() if hasattr(config, "peft_type")] if isinstance(found, dict) else []


def _lora_layers(model: nn.Module) -> list[tuple[str, Any]]:
    return [(_plain_name(name), module) for name, module in model.named_modules() if _is_lora_layer(module)]


def _is_lora_layer(module: nn.Module) -> bool:
    return (
        hasattr(module, "lora_A") and hasattr(module, "lora_B") and isinstance(getattr(module, "scaling", None), dict)
    )


def _active_adapter(layers: list[Any]) -> str:
    active: list[str] = list(dict.fromkeys(name for layer in layers for name in layer.active_adapters))
    if len(active) != 1:
        raise LorateError(
            f"expected one active adapter, found {len(active)} ({', '.join(active) or 'none'}); "
            "choose one with model.set_adapter(name)"
        )
    return active[0]


def _pair(name: str, layer: Any, adapter: str) -> LoraPair | None:
    """The pair of one layer, or None where the layer does not hold this adapter."""
    if adapter not in layer.scaling:
        return None
    _refuse_unused(name, layer)
    variant = type(layer.lora_variant[adapter]).__name__ if adapter in getattr(layer, "lora_variant", {}) else None
    if variant is not None and "Dora" not in variant:
        raise NotPlain(
            f"{name} is a {variant} layer, which is not trained as W = W0 + s B A; "
            "lorate supports plain LoRA, rsLoRA and DoRA"
        )
    kind, A, B, groups = _factors(name, layer, adapter)
    scaling = float(layer.scaling[adapter])
    if not 0 < scaling < math.inf:
        raise LorateError(
            f"{name} has the scaling {scaling:g} (lora_alpha / r), which must be a finite number above 0; "
            "set lora_alpha to such a number"
        )
    dropout = dict(layer.lora_dropout.items()).get(adapter)
    share = float(getattr(dropout, "p", 0.0))
    return LoraPair(name, adapter, kind, layer, A, B, scaling, groups, dropout=share, dora=variant is not None)


def _refuse_unused(name: str, layer: Any) -> None:
    if getattr(layer, "merged", False):
        raise LorateError(f"the adapter is merged into {name}; call model.unmerge_adapter() before training")
    if layer.disable_adapters:
        raise LorateError(
            f"the adapters of {name} are switched off; call model.enable_adapter_layers() before training"
        )


def _factors(name: str, layer: Any, adapter: str) -> tuple[Kind, nn.Parameter, nn.Parameter, int]:
    if adapter in layer.lora_embedding_A:
        return "embedding", layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter], 1
    # torch's fully_shard puts a class of its own in front
    classes = {cls.__name__ for cls in type(layer).__mro__}
    own_forward = bool(classes & {"MultiheadAttention", "ParamWrapper", "LoraParallelLinear"})
    first: Any = layer.lora_A[adapter]
    second: Any = layer.lora_B[adapter]
    if isinstance(layer.lora_A[adapter], nn.Conv2d) and not own_forward:
        return "conv2d", first.weight, second.weight, second.groups
    if isinstance(layer.lora_A[adapter], nn.Linear) and not own_forward:
        return "linear", first.weight, second.weight, 1
    what = type(layer).__name__ if own_forward else type(first).__name__
    raise NotPlain(
        f"{name}: LoRA on {what} is not supported; lorate knows Linear, Conv2d and Embedding layers "
        "(leave this layer out of target_modules)"
    )


def _refuse_frozen(pairs: list[LoraPair]) -> None:
    frozen = [
        f"{pair.name} ({'A' if not pair.A.requires_grad else 'B'})"
        for pair in pairs
        if not (pair.A.requires_grad and pair.B.requires_grad)
    ]
    if frozen:
        raise LorateError(
            f"{len(frozen)} of {len(pairs)} LoRA pairs are frozen, first {frozen[0]}; both factors must be trainable "
            "(load adapters with is_trainable=True)"
        )


def _refuse_tied(pairs: list[LoraPair]) -> None:
    """The theory has one gradient a layer, and no factor in two."""
    owner: dict[int, str] = {}
    for pair in pairs:
        for parameter in (pair.A, pair.B):
            address = sharding.local([parameter.detach()])[0].data_ptr()
            if address and owner.setdefault(address, pair.name) != pair.name:
                raise NotPlain(
                    f"{pair.name} and {owner[address]} share their numbers, so that neither alone is trained as "
                    "W = W0 + s B A"
                )
