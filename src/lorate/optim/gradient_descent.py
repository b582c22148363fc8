"""Simultaneous gradient descent on all LoRA factors under a rule for the step size."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.optim.layout import Layer, Slot, slots
from lorate.optim.measure import measure
from lorate.rates import Rate, StepSizes


class WeightGradient(Protocol):
    """Whatever can tell the norms of the frozen weights' gradients of the step that ends now."""

    def norms(self) -> Tensor:
        """Frobenius norm of G of each layer, shape ``[layers]``."""

    def reset(self) -> None:
        """Forget the finished step."""


@dataclass(frozen=True)
class Step:
    """What the last call of ``optimizer.step()`` saw and did.

    Attributes:
        number: steps called so far, skipped ones included; the first is 1.
        measurement: lengths before the step.
        eta: step size in force, multiplier included; 0 if skipped.
        lr: the multiplier: ``lr`` of the first group times its damping.
        sum_eta: sum of ``eta`` over all steps so far.
        skipped: why the step was not taken; None if it was.
    """

    number: int
    measurement: Measurement
    eta: float
    lr: float
    sum_eta: float
    skipped: str | None = None


class LoraGradientDescent(torch.optim.Optimizer):
    r"""Gradient descent on every A and B at once, with the step size of a rule.

    $$ A_l \leftarrow A_l - lr\,\eta_l\, \nabla_{A_l} J, \qquad B_l \leftarrow B_l - lr\,\eta_l\, \nabla_{B_l} J $$

    with $\eta_l = \eta / s_l$ (except for ``constant``). Other trainable parameters move by $lr\,\eta$ times their
    gradient. Build it with `lorate.create_optimizer`.

    A step whose loss or gradient is not finite is skipped, counted (``skipped`` in the param groups) and explained
    (``optimizer.last.skipped``); the weights stay as they are.

    Args:
        groups: param groups from `lorate.optim.layout.param_groups`.
        layers: description of each LoRA layer.
        rate: the rule.
        lr: the rule's constant ``a``; a group may have its own, schedulers may multiply it.
        weight_gradient: tells $\|G_l\|$; needed by rules that ask for it.

    Raises:
        LorateError: ``lr`` is missing where the rule has no default, or not a number >= 0.

    Source: arXiv 2512.18248, Algorithm of Section 2 (simultaneous update), with the scaling s of each layer.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rate: Rate,
        lr: float | None = None,
        weight_gradient: WeightGradient | None = None,
    ) -> None:
        lr = rate.default_lr if lr is None else lr
        if lr is None:
            raise LorateError(f"rate {rate.name!r} needs lr=... (--lr): it has no constant that is right by default")
        groups = list(groups)
        for value in (lr, *(group["lr"] for group in groups if "lr" in group)):
            if not (isinstance(value, int | float | Tensor) and 0 <= float(value) < float("inf")):
                raise LorateError(f"lr must be a finite number >= 0, got {value!r}")
        self.layers = list(layers)
        self.rate = rate
        self.weight_gradient = weight_gradient
        self.last: Step | None = None
        self._losses: list[Tensor] = []
        super().__init__(groups, {"lr": lr, "damping": 1.0, "steps": 0, "skipped": 0, "sum_eta": 0.0})

    def record_loss(self, loss: Tensor) -> None:
        """Add a micro-batch's share of the training loss; the next step uses the sum. For integrations."""
        self._losses.append(loss.detach())

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None, *, loss: Tensor | float | None = None
    ) -> Tensor | float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and its gradients again and returns the loss, as for any torch optimizer.
            loss: the training loss that the gradients belong to (with gradient accumulation: of the whole batch);
                needed by ``adaptive-loss``, and shown by the monitor.

        Returns:
            The loss.

        Raises:
            LorateError: the rule needs something that was not given, or the adapters hold non-finite values.
        """
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if loss is None and self._losses:
            loss = torch.stack([value.double() for value in self._losses]).sum()
        self._losses.clear()
        current = slots(self.param_groups)
        measured = measure(current, self.layers, loss, self._weight_gradient_norms())
        if measured.faulty_weights:
            raise LorateError(f"{measured.fault}; load the last good checkpoint")
        skipped = measured.fault
        sizes = StepSizes(0.0, np.zeros(len(self.layers)), 0.0)
        if skipped is None:
            sizes = self.rate.step_sizes(measured.measurement)
            skipped = self._overflow(current, measured.measurement, sizes)
        if skipped is None:
            self._move(current, sizes)
        self._note(measured.measurement, sizes, skipped)
        return loss

    def dampen(self, factor: float = 0.5) -> None:
        """Multiply every further step by a factor, whatever a scheduler does to ``lr``; kept in the state dict."""
        for group in self.param_groups:
            group["damping"] *= factor

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore counters, multipliers and damping.

        Raises:
            LorateError: the state belongs to other adapters.
        """
        loaded, own = state_dict["param_groups"], self.param_groups
        roles = [[None if r is None else tuple(r) for r in group.get("roles", ())] for group in loaded]
        if roles != [group["roles"] for group in own]:
            raise LorateError("the optimizer state was saved for other LoRA layers or param groups than this model's")
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"layers": self.layers, "rate": self.rate}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("weight_gradient", None)
        self.__dict__.setdefault("last", None)
        self.__dict__.setdefault("_losses", [])

    def _weight_gradient_norms(self) -> Tensor | None:
        if "weight-gradient" not in self.rate.needs:
            return None
        if self.weight_gradient is None:
            raise LorateError(
                f"rate {self.rate.name!r} needs the frozen weights' gradient, which hooks on the model measure; "
                "build the optimizer with lorate.create_optimizer(model, ...)"
            )
        norms = self.weight_gradient.norms()
        self.weight_gradient.reset()
        return norms

    def _factor(self, slot: Slot, sizes: StepSizes) -> float:
        size = sizes.rest if slot.role is None else float(sizes.layers[slot.role[0]])
        lr, damping = float(slot.group["lr"]), float(slot.group["damping"])
        return lr * damping * size

    def _move(self, current: Sequence[Slot], sizes: StepSizes) -> None:
        together: dict[tuple[float, torch.dtype], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for slot in current:
            if slot.parameter.grad is not None:
                parameters, gradients = together[self._factor(slot, sizes), slot.parameter.dtype]
                parameters.append(slot.parameter)
                gradients.append(slot.parameter.grad)
        for (factor, _), (parameters, gradients) in together.items():
            torch._foreach_add_(parameters, gradients, alpha=-factor)

    def _overflow(self, current: Sequence[Slot], m: Measurement, sizes: StepSizes) -> str | None:
        """A finite gradient times a huge rate can still leave the range of the adapters' dtype."""
        weights = {"A": m.A_sq, "B": m.B_sq}
        gradients = {"A": m.A_grad_sq, "B": m.B_grad_sq}
        for slot in current:
            factor = self._factor(slot, sizes)
            if slot.role is None:
                longest = factor * m.rest_grad_sq**0.5
            else:
                layer, side = slot.role
                longest = weights[side][layer] ** 0.5 + factor * gradients[side][layer] ** 0.5
            if not longest < torch.finfo(slot.parameter.dtype).max:
                return f"the step would overflow {str(slot.parameter.dtype).removeprefix('torch.')}: lower lr"
        return None

    def _note(self, m: Measurement, sizes: StepSizes, skipped: str | None) -> None:
        first = self.param_groups[0]
        lr = float(first["lr"]) * first["damping"]
        eta = 0.0 if skipped else lr * sizes.eta
        for group in self.param_groups:
            group["steps"] += 1
            group["skipped"] += skipped is not None
            group["sum_eta"] += eta
        self.last = Step(first["steps"], m, eta, lr, first["sum_eta"], skipped)
