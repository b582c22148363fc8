"""Which gradient went wrong first? Trainers spread one bad value over all gradients before a step."""

import torch
from torch import Tensor, nn

from lorate import ranks, sharding
from lorate.hooks import attach


class GradientWatch:
    """Notes, as each gradient arrives, whether it is finite.

    Trainers compute the norm of all gradients and multiply each by a factor that it gives, so that one infinite value
    turns all of them into NaN before the optimizer sees any. Hooks on the parameters see them before that.

    Args:
        model: its trainable parameters are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._flags: dict[str, Tensor] = {}
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names = {id(parameter): name for name, parameter in trained.items()}
        self._device = next(iter(trained.values())).device
        self._handles = [
            attach(parameter.register_post_accumulate_grad_hook, self._note) for parameter in trained.values()
        ]

    def take_fault(self) -> str | None:
        """Name the parameters whose gradient was not finite since the last call; None if all were.

        Over several ranks, on any of them; all ask then. Waits for the device, so it is asked only after a step was
        skipped; `reset` does not wait.
        """
        names = list(self._names.values())
        finite = torch.ones(len(names), dtype=torch.float64, device=self._device)
        for place, name in enumerate(names):
            if name in self._flags:
                finite[place] = self._flags[name]
        bad = [name for name, share in zip(names, ranks.mean(finite).tolist(), strict=True) if share < 1]
        self.reset()
        return f"the gradient of {bad[0]} is not finite ({len(bad)} of {len(names)} parameters)" if bad else None

    def reset(self) -> None:
        """Begin a new step."""
        self._flags.clear()

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _note(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            name = self._names[id(parameter)]
            with torch.no_grad():
                (own,) = sharding.local([parameter.grad])  # each rank looks at what it has
                finite = torch.isfinite(own.sum())
            self._flags[name] = finite & self._flags[name] if name in self._flags else finite
