"""What a direction does to the weights, as a few numbers per layer computed on the device."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lorate import sharding
from lorate.geometry import displacement_gram, inner_products, squared_norms
from lorate.measurement import Array, Displacement
from lorate.optim.layout import Layer, Slot, blocks_by_layer, gradients, values
from lorate.optim.weight_gradient import WeightGradient


def displacement_numbers(
    slots: Sequence[Slot], directions: Sequence[Tensor], layers: Sequence[Layer], hooks: WeightGradient | None
) -> dict[str, Tensor]:
    r"""The numbers of a `Displacement`, still on the device.

    Args:
        slots: the optimizer's parameters.
        directions: D, one tensor a slot.
        layers: the layers that the slots' roles refer to.
        hooks: tell $\langle G, D_B D_A\rangle$; None leaves it to L.
    """
    directions = sharding.whole(directions)
    A, B = blocks_by_layer(slots, values(slots), layers)
    D_A, D_B = blocks_by_layer(slots, directions, layers)
    gram = displacement_gram(A, B, D_A, D_B, [layer.scaling for layer in layers])
    numbers = {
        "slope": inner_products(gradients(slots), directions),
        "length": squared_norms(directions),
        "pp": gram.pp,
        "pq": gram.pq,
        "qq": gram.qq,
    }
    if hooks is not None:
        numbers["G product"] = hooks.inner_products(D_A, D_B)
    return numbers


def displacement_of(
    numbers: Mapping[str, Array], slots: Sequence[Slot], layers: Sequence[Layer], unit: Array
) -> Displacement:
    """Put the numbers together by layer, once they are on the host."""
    slope, lengths, rest = np.zeros(len(layers)), {side: np.zeros(len(layers)) for side in "AB"}, np.zeros(2)
    for slot, part, length in zip(slots, numbers["slope"], numbers["length"], strict=True):
        if slot.role is None:
            rest += part, length
        else:
            slope[slot.role[0]] += part
            lengths[slot.role[1]][slot.role[0]] = length
    exact = all(slot.parameter.dtype == torch.float64 for slot in slots)
    return Displacement(
        slope=slope,
        pp=numbers["pp"],
        pq=numbers["pq"],
        qq=numbers["qq"],
        gradient_q=numbers.get("G product", np.zeros(len(layers))) * [layer.scaling for layer in layers],
        A_sq=lengths["A"],
        B_sq=lengths["B"],
        unit=unit,
        rest_slope=float(rest[0]),
        rest_sq=float(rest[1]),
        precision=1e-14 if exact else 4e-6,
    )
