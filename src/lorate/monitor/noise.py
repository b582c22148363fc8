"""What makes the loss of one batch another number at the next evaluation."""

import torch
from torch import Tensor, nn

RANDOM_MODULES = ("dropout", "droppath", "stochasticdepth", "rrelu", "noise")
"""Words in the names of classes whose modules draw random numbers in training."""

STRENGTHS = ("p", "prob", "std", "sigma", "upper")
"""How such modules call the number that switches them off at 0."""


def noise_sources(model: nn.Module) -> list[str]:
    """Names of the modules of a model that drop or disturb something as it is set now.

    Found are modules in training mode whose class says so and whose probability is not 0 (dropout of any kind, drop
    path, RReLU), and modules with a number above 0 whose name begins with or ends in ``drop``, ``dropout`` or
    ``drop_rate``, as attention layers and recurrent ones keep their probability. Dropout written as a function of a
    constant is not seen.

    Args:
        model: any model.

    Returns:
        The names, in the model's order.

    >>> noise_sources(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Dropout(0.0), nn.Dropout(0.5).eval()))
    ['1']
    """
    return [name or type(module).__name__ for name, module in model.named_modules() if _draws(module)]


def _draws(module: nn.Module) -> bool:
    if not module.training:
        return False
    kind = type(module).__name__.lower()
    chances = [value for key, value in vars(module).items() if _is_chance(key, value)]
    if any(word in kind for word in RANDOM_MODULES):
        chances += [value for key, value in vars(module).items() if key in STRENGTHS and _is_number(value)]
        return not chances or any(value > 0 for value in chances)  # one that hides its strength counts
    return any(value > 0 for value in chances)


def _is_chance(key: str, value: object) -> bool:
    word = key.lower().strip("_")
    return (word.startswith("drop") or word.endswith(("drop", "dropout", "drop_rate"))) and _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class RandomNumbers:
    """Whether random numbers were drawn since the last look, from torch's generators of the CPU and one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = self._now()

    def were_drawn(self) -> bool:
        """Look again."""
        before, self._states = self._states, self._now()
        return not all(torch.equal(x, y) for x, y in zip(before, self._states, strict=True))

    def _now(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states
