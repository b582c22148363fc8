"""Steps along another optimizer's direction whose size is found on the way."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorate import ranks, sharding
from lorate.errors import LorateError
from lorate.geometry import inner_products
from lorate.optim import loss_scale
from lorate.optim.auto.average import PolynomialAverage
from lorate.optim.auto.control import Control
from lorate.optim.auto.moved import Moved
from lorate.optim.auto.probe import part_of_batch, rounding_unit, whole_batch
from lorate.optim.auto.replay import Loss, Replay, TrainingForward, without_trace
from lorate.optim.directed import LoraDirected, returned
from lorate.optim.direction import DirectionFactory
from lorate.optim.displacement import displacement_numbers
from lorate.optim.gradient_descent import full_precision
from lorate.optim.layout import Layer, Slot, gradients, slots
from lorate.optim.measure import Measured, measure
from lorate.rules import StepSizes
from lorate.rules.auto import Auto

ADAMW: DirectionFactory = partial(torch.optim.AdamW, weight_decay=0.0)


class LoraAuto(LoraDirected):
    r"""Needs no learning rate: measures on unseen batches what its steps do, and goes by that.

    Each step moves all parameters by $\eta\,D$, where D is what another torch optimizer would add with a learning rate
    of 1. The next gradient, taken on a batch that D has not seen, tells for free whether the step ended before or
    beyond the lowest point of its line; sparse probes (one more forward pass) tell the curvature; see
    `lorate.optim.auto.control`. The result is an average of the adapters over the run: ``with optimizer.averaged():``
    to evaluate in between, and ``optimizer.finish()`` at the end.

    The probes evaluate the step's batch again. In a loop of your own pass a closure, which is called without gradients
    for them::

        def closure():
            loss = model(**batch).loss
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)

    or call ``backward`` yourself, set ``optimizer.replay = lambda: model(**batch).loss`` and call
    ``optimizer.step(loss=loss)``. `lorate.for_trainer` does that for Trainers.

    Args:
        groups: as for `LoraGradientDescent`, like ``layers``.
        layers: description of each LoRA layer.
        rule: the rule.
        lr: multiplies the step; schedulers may change it, and $\eta$ does not work against them.
        direction: builds the torch optimizer whose direction is taken; AdamW without weight decay if not given. Its
            own ``lr`` is not used.

    Attributes:
        replay: evaluates the last training batch again: a function, or a `Replay`; None with closures.
        control: what the feedback remembers.

    Source: docs/auto.md.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Auto,
        lr: float | None = None,
        direction: DirectionFactory | None = None,
    ) -> None:
        super().__init__(groups, layers, rule, lr, None, direction or ADAMW)
        assert self.direction is not None
        for group in self.direction.inner.param_groups:
            group["lr"] = 1.0
        self.replay: Loss | Replay | None = None
        self.control: Control | None = None
        self.is_averaged = False
        self.forward: TrainingForward | None = None
        self._average = PolynomialAverage(self._parameters)
        self._unaveraged = 0  # number of the step that the average has not taken in; 0 if there is none
        self._moved = Moved()

    def watch(self, model: torch.nn.Module, layer: torch.nn.Module) -> None:
        """Note the forward passes of the model, so that they can be repeated; ``layer`` is one of its LoRA layers."""
        self.forward = TrainingForward(model, layer, lambda: self._probe_is_due)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None, *, loss: Tensor | float | None = None
    ) -> Tensor | float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and returns it, and its gradients too if gradients are enabled.
            loss: the training loss, if the gradients are there already.

        Returns:
            The loss.

        Raises:
            LorateError: the loss, or a way to evaluate it again, is missing; or the averaged adapters are in place.
        """
        if self.is_averaged:
            raise LorateError("the averaged adapters are in the model: call optimizer.use_last() before training on")
        try:
            if closure is not None:
                loss = returned(self._first_evaluation(closure))
            elif loss is None and self._losses:
                loss = torch.stack([value.double() for value in self._losses]).sum()
            current = slots(self.param_groups)
            self._unscale(current)
            measured = self._checked(self._measure(current, loss))
            if measured.measurement.loss is None:
                raise LorateError(
                    "rule 'auto' needs the loss: call optimizer.step(closure) or optimizer.step(loss=loss); in a "
                    "Trainer the model's own forward must return it. Where it cannot (DPO, GRPO), use rule 'normalized'"
                )
            replay = Replay(closure) if closure is not None else _as_replay(self.replay)
            probe: float | None = None
            skipped = measured.fault
            if skipped is None:
                self._take_in()
                probe = self._learn(current, measured, replay)
                self._advance(current)
            elif self._is_to_blame(measured, replay):
                self._take_back(current)
                skipped += "; the step before it was taken back, and the step size quartered"
        except BaseException:
            loss_scale.forget(self)
            raise
        finally:
            self._forget()
        self._note(measured.measurement, self._sizes, skipped, evaluations=int(closure is not None))
        assert self.last is not None
        control = self.control
        self.last = replace(
            self.last,
            smoothness=None if control is None else control.smoothness,
            signal_fraction=None if control is None else control.signal_fraction,
            probe=probe,
        )
        return loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged adapters are in the model inside, the last ones again afterwards."""
        before = self.is_averaged
        self.use_average()
        try:
            yield
        finally:
            if not before:
                self.use_last()

    def use_average(self) -> None:
        """Put the averaged adapters into the model, if they are not there."""
        if not self.is_averaged:
            self._exchange()

    def use_last(self) -> None:
        """Put the last adapters back, from which training goes on."""
        if self.is_averaged:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        if not self.is_averaged:
            self._take_in()
        self._average.exchange(self._parameters)
        self.is_averaged = not self.is_averaged
        if self.forward is not None:
            sharding.reshard(self.forward.model)

    def finish(self) -> None:
        """End of the training: leave the averaged adapters in the model, and take the hooks off it."""
        self.use_average()
        if self.forward is not None:
            self.forward.remove()

    def state_dict(self) -> dict[str, Any]:
        """Counters, the direction's optimizer, the feedback, the average and the last displacement."""
        own = {
            "control": None if self.control is None else asdict(self.control),
            "average": self._average.tensors,
            "unaveraged": self._unaveraged,
            "is_averaged": self.is_averaged,
            "moved": self._moved.state_dict(),
        }
        return super().state_dict() | {"auto": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all of it.

        Raises:
            LorateError: the state belongs to other adapters, or to another rule.
        """
        if "auto" not in state_dict:
            raise LorateError("the optimizer state was not saved with rule 'auto': build the optimizer alike")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "auto"})
        own = state_dict["auto"]
        self.control = None if own["control"] is None else Control(**own["control"])
        self.is_averaged = own["is_averaged"]
        device = self._parameters[0].device
        self._average.tensors = [tensor.to(device, copy=True) for tensor in own["average"]]
        self._unaveraged = own["unaveraged"]
        self._moved = Moved.from_state(own["moved"], device)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("control", "is_averaged", "_average", "_unaveraged", "_moved")}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("replay", None)
        self.__dict__.setdefault("forward", None)

    @property
    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @property
    def _sizes(self) -> StepSizes:
        eta = 0.0 if self.control is None else self.control.eta
        return StepSizes(eta, np.full(len(self.layers), eta), eta)

    @property
    def _probe_is_due(self) -> bool:
        return self._moved.length > 0 and self.control is not None and self.control.probe_is_due

    def _first_evaluation(self, closure: Loss) -> Tensor:
        """Loss and gradients; what is random in them can be repeated."""
        if self.forward is None:
            return self._evaluate(closure)
        with self.forward.of_closure():
            return self._evaluate(closure)

    def _measure(self, current: Sequence[Slot], loss: Tensor | float | None) -> Measured:
        extras: dict[str, Tensor] = {}
        with full_precision(current):
            if self._moved.directions:
                extras = {"end slope": inner_products(gradients(current), sharding.whole(self._moved.directions))}
                extras |= {"moved": self._moved.numbers}
            return measure(current, self.layers, loss, extras=extras)

    def _learn(self, current: Sequence[Slot], measured: Measured, replay: Replay | None) -> float | None:
        """What the last displacement did; returns the L of the probe, if one was made and counted."""
        if self.control is None or not self._moved.length > 0:
            return None
        loss = measured.measurement.loss
        assert loss is not None
        end_slope = self._moved.length * float(measured.extras["end slope"].sum())
        promised, squared_length = self._moved.slope_and_length(measured.extras["moved"])
        due = self.control.probe_is_due
        control, found = self.control.seen(), None
        if due:
            difference = self._probe(current, loss, end_slope, replay)
            control = control.probed(difference, squared_length)
            found = None if difference is None or not squared_length > 0 else difference / squared_length
        self.control = control.followed(end_slope, promised, squared_length, self._moved.multiplier)
        return found

    def _probe(self, current: Sequence[Slot], loss: float, end_slope: float, replay: Replay | None) -> float | None:
        if replay is None:
            raise LorateError(
                "rule 'auto' evaluates a batch again now and then: call optimizer.step(closure), or set "
                "optimizer.replay = lambda: model(**batch).loss before optimizer.step(loss=loss)"
            )
        unit = rounding_unit(torch.float32 if self.forward is None else self.forward.dtype)
        if replay.part is None:
            return whole_batch(self._evaluator(current, replay), loss, end_slope, unit)
        return part_of_batch(self._evaluator(current, replay), loss, _mean(replay.part, current), unit)

    def _evaluator(self, current: Sequence[Slot], replay: Replay) -> Callable[[float], float]:
        parameters = [slot.parameter for slot in current]
        values, directions = sharding.local(p.detach() for p in parameters), sharding.local(self._moved.directions)

        def evaluate(share: float) -> float:
            state = None if self.forward is None else self.forward.random_state
            model = torch.nn.Module() if self.forward is None else self.forward.model
            with without_trace(model, parameters, state):
                torch._foreach_add_(values, directions, alpha=-share * self._moved.length)
                return _mean(_evaluated(replay), current)

        return evaluate

    def _advance(self, current: Sequence[Slot]) -> None:
        with full_precision(current):
            # a coordinate whose second moment is zero has no direction (0/0, or infinite): it stands still
            directions = [d.nan_to_num_(0.0, 0.0, 0.0) for d in self._downhill(current)]
            if self.control is None:
                self.control = Control.first(_mean(_rms(sharding.whole(directions)), current))
            self._directions = directions
            # what D does to the weights depends on where it starts: before the move
            numbers = displacement_numbers(current, directions, self.layers, None)
            self._move(current, self._sizes)
            self._moved = Moved.after(directions, numbers, current, self._multiplier, self.control.eta)
            self._unaveraged = self.param_groups[0]["steps"] - self.param_groups[0]["skipped"] + 1

    def _take_in(self) -> None:
        """Let the average take in the last step; not before its loss was seen, since it may be taken back."""
        if self._unaveraged:
            self._average.update(self._parameters, self._unaveraged)
            self._unaveraged = 0

    def _is_to_blame(self, measured: Measured, replay: Replay | None) -> bool:
        """Whether the loss is finite again without the last displacement; else the batch itself is bad."""
        loss = measured.measurement.loss
        if loss is None or math.isfinite(loss) or replay is None or not self._moved.length > 0:
            return False
        current = slots(self.param_groups)
        if replay.part is not None and math.isfinite(_mean(replay.part, current)):
            return False  # another micro-batch is bad, which cannot be evaluated again
        return math.isfinite(self._evaluator(current, replay)(1.0))

    def _take_back(self, current: Sequence[Slot]) -> None:
        assert self.control is not None
        parameters = sharding.local(slot.parameter.detach() for slot in current)
        torch._foreach_add_(parameters, sharding.local(self._moved.directions), alpha=-self._moved.length)
        self.control, self._moved, self._unaveraged = self.control.taken_back(), Moved(), 0

    def _forget(self) -> None:
        super()._forget()
        if self.forward is not None:
            self.forward.forget()


def _rms(tensors: Sequence[Tensor]) -> Tensor:
    count = sum(tensor.numel() for tensor in tensors)
    return (torch.stack([tensor.double().square().sum() for tensor in tensors]).sum() / count).sqrt()


def _mean(value: Tensor | float, current: Sequence[Slot]) -> float:
    """The mean over the ranks of what each of them found."""
    return float(ranks.mean(torch.as_tensor(value, device=current[0].parameter.device)))


def _evaluated(replay: Replay) -> Tensor:
    try:
        return replay.function()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        raise LorateError(
            "rule 'auto' calls the closure without gradients too: write `if loss.requires_grad: loss.backward()` in it"
        ) from error


def _as_replay(replay: Loss | Replay | None) -> Replay | None:
    return replay if replay is None or isinstance(replay, Replay) else Replay(replay)
