"""Simultaneous gradient descent on all LoRA factors under a rule for the step size."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.errors import LorateError
from lorate.measurement import Array, Measurement
from lorate.optim import loss_scale
from lorate.optim.layout import Layer, Slot, slots
from lorate.optim.measure import Measured, measure
from lorate.optim.step import Step
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Rule, StepSizes


class LoraGradientDescent(torch.optim.Optimizer):
    r"""Gradient descent on every A and B at once, with the step size of a rule.

    $$ A_l \leftarrow A_l - lr\,\eta_l\, \nabla_{A_l} J, \qquad B_l \leftarrow B_l - lr\,\eta_l\, \nabla_{B_l} J $$

    with $\eta_l = \eta / s_l$ (except for ``constant``). Other trainable parameters move by $lr\,\eta$ times their
    gradient. Build it with `lorate.create_optimizer`.

    A step whose loss or gradient is not finite is skipped, counted (``skipped`` in the param groups) and explained
    (``optimizer.last.skipped``); the weights stay as they are.

    With a `torch.amp.GradScaler` (float16), ``scaler.step(optimizer, loss=loss)`` is all: the scale is divided out of
    what the rule reads, and a step that the scaler would leave out is skipped as above. Pass the loss itself, not
    what was scaled.

    Args:
        groups: param groups from `lorate.optim.layout.param_groups`.
        layers: description of each LoRA layer.
        rule: the rule.
        lr: the rule's constant ``a``; a group may have its own, schedulers may multiply it.
        weight_gradient: tells $\|G_l\|$; needed by rules that ask for it.

    Raises:
        LorateError: ``lr`` is missing where the rule has no default, or not a number >= 0.

    Source: arXiv 2512.18248, Algorithm of Section 2 (simultaneous update), with the scaling s of each layer.
    """

    _step_supports_amp_scaling = True  # a GradScaler then hands over its scale, in place of dividing it out

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Rule,
        lr: float | None = None,
        weight_gradient: WeightGradient | None = None,
    ) -> None:
        lr = rule.default_lr if lr is None else lr
        if lr is None:
            raise LorateError(f"rule {rule.name!r} needs lr=... (--lr): it has no constant that is right by default")
        groups = list(groups)
        for value in (lr, *(group["lr"] for group in groups if "lr" in group)):
            if not (isinstance(value, int | float | Tensor) and 0 <= float(value) < float("inf")):
                raise LorateError(f"lr must be a finite number >= 0, got {value!r}")
        self.layers = list(layers)
        self.rule = rule
        self.weight_gradient = weight_gradient
        self.last: Step | None = None
        self._losses: list[Tensor] = []
        super().__init__(groups, {"lr": lr, "damping": 1.0, "steps": 0, "skipped": 0, "sum_eta": 0.0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """For torch's constructor.

        Raises:
            LorateError: the group does not say which factor of which layer its parameters are.
        """
        if "roles" not in param_group:
            raise LorateError(
                "param groups are fixed when the optimizer is built, which tells A and B from other parameters; give "
                "them to lorate.create_optimizer(model, groups=[...])"
            )
        super().add_param_group(param_group)

    def record_loss(self, loss: Tensor) -> None:
        """Add a micro-batch's share of the training loss; the next step uses the sum. For integrations."""
        self._losses.append(loss.detach())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and what was measured of them."""
        super().zero_grad(set_to_none)
        self._forget_gradient()

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
            LorateError: the rule needs something that was not given, the loss is not one number, or the adapters hold
                non-finite values.
        """
        try:
            if closure is not None:
                loss = self._evaluate(closure)
            if loss is None and self._losses:
                loss = torch.stack([value.double() for value in self._losses]).sum()
            current = slots(self.param_groups)
            self._unscale(current)
            measured = self._checked(self._measure(current, loss))
            sizes, skipped = self._choose(current, measured)
            if skipped is None:
                self._move(current, sizes)
        except BaseException:
            loss_scale.forget(self)
            raise
        finally:
            self._forget()
        self._note(measured.measurement, sizes, skipped, evaluations=int(closure is not None))
        return loss

    def dampen(self, factor: float = 0.5) -> None:
        """Multiply every further step by a factor, whatever a scheduler does to ``lr``; kept in the state dict.

        Raises:
            LorateError: the factor is not a finite number >= 0.
        """
        if not 0 <= factor < float("inf"):
            raise LorateError(f"damping multiplies steps by a finite number >= 0, got {factor}")
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
        return super().__getstate__() | {"layers": self.layers, "rule": self.rule}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("weight_gradient", None)
        self.__dict__.setdefault("last", None)
        self.__dict__.setdefault("_losses", [])

    def _evaluate(self, closure: Callable[[], Tensor]) -> Tensor:
        with torch.enable_grad():
            return closure()

    def _unscale(self, current: Sequence[Slot]) -> None:
        """Take a GradScaler's loss scale out of whatever this step reads."""
        gradients = [slot.parameter.grad for slot in current if slot.parameter.grad is not None]
        scale = loss_scale.divide_out(self, sharding.local(gradients))
        if self.weight_gradient is None:
            return
        if loss_scale.was_hidden(self):
            raise LorateError(
                f"rule {self.rule.name!r} measures the frozen weights' gradient, which scaler.unscale_(optimizer) "
                "leaves scaled: do not call it, scaler.step(optimizer) takes the scale out of everything"
            )
        self.weight_gradient.loss_scale = 1.0 if scale is None else scale

    def _forget(self) -> None:
        """What belonged to the finished step, or to one that failed, is not part of the next."""
        self._forget_gradient()

    def _forget_gradient(self) -> None:
        self._losses.clear()
        if self.weight_gradient is not None:
            self.weight_gradient.reset()

    def _measure(self, current: Sequence[Slot], loss: Tensor | float | None) -> Measured:
        spectral = "spectral" in self.rule.needs
        with full_precision(current):
            if "weight-gradient" not in self.rule.needs:
                return measure(current, self.layers, loss, spectral=spectral)
            hooks = self._averaged_hooks()
            gradient = hooks.numbers(bounds=spectral and hooks.method == "exact")
            doubt = {"doubt": gradient.pop("doubt")} if "doubt" in gradient else {}
            measured = measure(current, self.layers, loss, gradient, spectral=spectral, extras=doubt)
        if np.any(measured.extras.get("doubt", False)):
            hooks.settle(measured.extras["doubt"].astype(bool).tolist())
            return self._measure(current, loss)
        return measured

    def _averaged_hooks(self) -> WeightGradient:
        """Those that tell the frozen weights' gradient, of the whole batch; once a step."""
        if self.weight_gradient is None:
            raise LorateError(
                f"rule {self.rule.name!r} needs the frozen weights' gradient, which hooks on the model measure; "
                "build the optimizer with lorate.create_optimizer(model, ...)"
            )
        if ranks.world_size() > 1:
            self.weight_gradient.average_over_ranks()
        return self.weight_gradient

    def _checked(self, measured: Measured) -> Measured:
        if measured.faulty_weights:
            raise LorateError(f"{measured.fault}; load the last good checkpoint")
        return measured

    def _choose(self, current: Sequence[Slot], measured: Measured) -> tuple[StepSizes, str | None]:
        """The step sizes, and why the step cannot be taken, if so."""
        if measured.fault is not None:
            return self._no_step(), measured.fault
        sizes = self.rule.step_sizes(measured.measurement)
        return sizes, self._overflow(current, measured.measurement, sizes)

    def _no_step(self) -> StepSizes:
        return StepSizes(0.0, np.zeros(len(self.layers)), 0.0)

    @property
    def _multiplier(self) -> float:
        first = self.param_groups[0]
        return float(first["lr"]) * float(first["damping"])

    def _factor(self, slot: Slot, sizes: StepSizes) -> float:
        size = sizes.rest if slot.role is None else sizes.of(slot.role[1], slot.role[0])
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
            torch._foreach_add_(sharding.local(parameters), sharding.local(gradients), alpha=-factor)

    def _guarantee(self, m: Measurement, sizes: StepSizes) -> float | None:
        """The proved decrease is concave in a common multiplier, so up to 1 it keeps the multiplier's share."""
        multipliers = {float(group["lr"]) * float(group["damping"]) for group in self.param_groups}
        if sizes.guarantee is None or not self._certifies or len(multipliers) > 1 or max(multipliers) > 1:
            return None
        return multipliers.pop() * sizes.guarantee

    @property
    def _certifies(self) -> bool:
        sketched = self.weight_gradient is not None and self.weight_gradient.method == "sketch"
        return not sketched and not any(layer.dropout for layer in self.layers)

    def _overflow(self, current: Sequence[Slot], m: Measurement, sizes: StepSizes) -> str | None:
        """A finite gradient times a huge rate can still leave the range of the adapters' dtype."""
        weights, (directions, rest) = {"A": m.A_sq, "B": m.B_sq}, self._direction_sq(m)
        for slot in current:
            factor = self._factor(slot, sizes)
            if slot.role is None:
                longest = factor * rest**0.5
            else:
                layer, side = slot.role
                longest = weights[side][layer] ** 0.5 + factor * directions[side][layer] ** 0.5
            if not longest < torch.finfo(slot.parameter.dtype).max:
                return f"the step would overflow {str(slot.parameter.dtype).removeprefix('torch.')}: lower lr"
        return None

    def _direction_sq(self, m: Measurement) -> tuple[Mapping[str, Array], float]:
        """Squared lengths of what the factors multiply: the gradients."""
        return {"A": m.A_grad_sq, "B": m.B_grad_sq}, m.rest_grad_sq

    def _note(
        self,
        m: Measurement,
        sizes: StepSizes,
        skipped: str | None,
        *,
        evaluations: int = 0,
        smoothness: float | None = None,
    ) -> None:
        first = self.param_groups[0]
        lr = self._multiplier
        eta = 0.0 if skipped else lr * sizes.eta
        guarantee = None if skipped else self._guarantee(m, sizes)
        for group in self.param_groups:
            group["steps"] += 1
            group["skipped"] += skipped is not None
            group["sum_eta"] += eta
        self.last = Step(
            first["steps"],
            m,
            eta,
            lr,
            first["sum_eta"],
            skipped,
            guarantee,
            sizes.standing,
            smoothness,
            evaluations,
        )


def full_precision(current: Sequence[Slot]) -> torch.autocast:
    """The caller may step inside an autocast region, which would round the Gram products."""
    return torch.autocast(current[0].parameter.device.type, enabled=False)
