"""The optimizer: measure, ask the rule, move, record."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from lorate import sharding
from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.optim import loss_scale, mark, readiness, state
from lorate.optim.average import PolynomialAverage
from lorate.optim.direction import DirectionFactory, direction_of
from lorate.optim.evaluation import Batch, Closure, Evaluation
from lorate.optim.layout import Layer, Slot, checked_groups, slots
from lorate.optim.line import StepLine
from lorate.optim.look_back import LookBack
from lorate.optim.measure import Reading
from lorate.optim.move import Move
from lorate.optim.reading import read_step
from lorate.optim.replay import TrainingForward
from lorate.optim.step import Step
from lorate.optim.weight_gradient import WeightGradient
from lorate.rules import Rule, StepSizes


class LoraOptimizer(torch.optim.Optimizer):
    r"""Moves all A and B at once, $A_l \leftarrow A_l + lr\,\eta_l D_{A,l}$ and so B, as far as a rule says.

    D is minus the gradient or what another torch optimizer would add. With $\eta_l = \eta / s_l$ for most rules; other
    trainable parameters move by $lr\,\eta$. Build it with `lorate.create_optimizer`. It works under every rule as::

        optimizer.step(closure)              # or step(loss=loss) after backward
        with optimizer.averaged(): ...       # evaluate what the run would end with now
        optimizer.finish()                   # leave that in the model, take the hooks off

    A step whose loss or gradient is not finite is skipped, counted and explained (``optimizer.last.skipped``); the
    weights stay as they are. With a `torch.amp.GradScaler` call ``scaler.step(optimizer, loss=loss)``, with the loss
    itself: its scale is divided out of what the rule reads.

    Args:
        groups: param groups from `lorate.optim.layout.param_groups`.
        layers: description of each LoRA layer.
        rule: the rule; the optimizer works on a copy.
        lr: multiplies the rule's steps, its constant ``a``; torch's schedulers change it, a group may have its own.
        direction: builds the torch optimizer whose direction is taken; None takes the rule's own.
        weight_gradient: tells $\|G_l\|$; needed by rules that ask for it.
        forward: the model's forward passes, which some rules repeat.

    Attributes:
        rule: the copy, with what it remembers.
        last: what the last step saw and did; None before the first.
        replay: returns the loss of the last training batch again, for rules that ask; not needed with closures.

    Source: arXiv 2512.18248, Section 2 (simultaneous update), with the scaling s of each layer.
    """

    _step_supports_amp_scaling = True  # a GradScaler then hands over its scale instead of dividing it out

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layers: Sequence[Layer],
        rule: Rule,
        lr: float | None = None,
        *,
        direction: DirectionFactory | None = None,
        weight_gradient: WeightGradient | None = None,
        forward: TrainingForward | None = None,
    ) -> None:
        groups, multiplier = checked_groups(groups, rule, lr)
        self.layers, self.rule = list(layers), copy.deepcopy(rule)
        self.weight_gradient, self.forward = weight_gradient, forward
        self.last: Step | None = None
        self.replay: Closure | None = None
        self._losses: list[Tensor] = []
        self._known: Evaluation | None = None
        self._move: Move | None = None
        self._is_finished = False
        super().__init__(groups, {"lr": multiplier, "damping": 1.0, "steps": 0, "skipped": 0, "sum_eta": 0.0})
        self.direction = direction_of(rule, direction, slots(self.param_groups))
        exponent = rule.average_exponent
        self._average = None if exponent is None else PolynomialAverage(self._parameters, exponent, rule.gradient_share)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """For torch's constructor; a group that does not say which factors it holds is refused."""
        if "roles" not in param_group:
            raise LorateError("param groups are fixed when built: lorate.create_optimizer(model, groups=[...])")
        super().add_param_group(param_group)

    @property
    def is_averaged(self) -> bool:
        """Whether the averaged adapters are in the model."""
        return self._average is not None and self._average.is_in_model

    def record_loss(self, loss: Tensor) -> None:
        """Add a micro-batch's share of the training loss; the next step uses the sum."""
        self._losses.append(loss.detach())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and what was measured of them."""
        super().zero_grad(set_to_none)
        self._forget_gradient()

    @_disable_dynamo  # decisions on numbers: nothing to compile
    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Closure | None = None, *, loss: Tensor | float | None = None
    ) -> Tensor | float | None:
        """Take one step.

        Args:
            closure: evaluates the loss and its gradients again and returns the loss, as for any torch optimizer. Rules
                that look back may call it once more; ``if loss.requires_grad:`` before ``backward`` then saves time.
            loss: the training loss that the gradients belong to (with gradient accumulation: of the whole batch), if
                they are there already; ``adaptive-loss`` needs it, and the monitor shows it.

        Returns:
            The loss before the step.

        Raises:
            LorateError: a missing loss or closure, nothing to train, adapters that are averaged or not finite.
        """
        current = slots(self.param_groups)
        if state.is_rehearsal(current, closure, loss, self._losses):
            return None
        if self.is_averaged:
            raise LorateError("the averaged adapters are in the model: call optimizer.use_last() before training on")
        mark.compare(self._average, current, self.layers)
        line = None
        try:
            batch = Batch(self.rule, current, closure, self.replay, self.forward)
            begun = batch.begin(self._known)
            loss = batch.loss(begun, loss, self._losses)
            readiness.make_ready(current, loss, is_first=self.last is None)
            loss_scale.divide_out(self, self.rule.name, current, self.weight_gradient)
            line = self._line(current, batch, begun)
            reading = read_step(self.rule, line, self._move, self.weight_gradient, loss)
            sizes, skipped = self._answer(line, reading)
            if skipped is None:
                self._go(line, sizes)
            else:
                line.back()
        except BaseException:
            loss_scale.forget(self)
            if line is not None:
                line.back()
            raise
        finally:
            self._forget()
        self._known = line.evaluation if "closure" in self.rule.needs else None
        self._note(line, reading.measurement, sizes, skipped, batch.evaluations)
        return loss

    def dampen(self, factor: float = 0.5) -> None:
        """Multiply every further step by a finite factor >= 0, whatever a scheduler does to ``lr``."""
        if not 0 <= factor < float("inf"):
            raise LorateError(f"damping multiplies steps by a finite number >= 0, got {factor}")
        for group in self.param_groups:
            group["damping"] *= factor

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """What the run would end with is in the model inside, the last adapters afterwards (unless it was finished)."""
        before = self.is_averaged
        self.use_average()
        try:
            yield
        finally:
            if not before and not self._is_finished:
                self.use_last()

    def use_average(self) -> None:
        """Put the averaged adapters into the model, if the rule averages and they are not there.

        The last step is not among them: it belongs to the average once its loss was seen, since it may be taken back.
        """
        self._show(average=True)

    def use_last(self) -> None:
        """Put the last adapters back, from which training goes on, and the hooks that `finish` took off."""
        self._show(average=False)
        self._is_finished = False
        if self.forward is not None and "last-line" in self.rule.needs:
            self.forward.attach()
        if self.weight_gradient is not None:
            self.weight_gradient.attach()

    def finish(self) -> None:
        """End of the training: leave the averaged adapters in the model, and take all hooks off it."""
        self.use_average()
        self._is_finished = True
        for hooks in (self.forward, self.weight_gradient):
            if hooks is not None:
                hooks.remove()

    def state_dict(self) -> dict[str, Any]:
        """Tensors by parameter, numbers in the groups: counters, what the rule remembers, average, direction, move."""
        kept = self.rule, self.direction, self._move, self._average, self.layers
        return state.pack(super().state_dict(), self.param_groups, *kept)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all of it; a state of other adapters, another rule, direction, rank or format is refused."""
        state.check(state_dict, self.param_groups, self.rule, self.direction)
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self._move = state.unpack(state_dict, self.param_groups, self.rule, self.direction, self._average)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("layers", "rule", "direction", "_average", "_move")
        return super().__getstate__() | {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        names = ("weight_gradient", "forward", "last", "replay", "_known")
        self.__dict__ |= {"_losses": [], "_is_finished": False, **dict.fromkeys(names), **vars(self)}

    @property
    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _line(self, current: Sequence[Slot], batch: Batch, begun: Evaluation | None) -> StepLine:
        move, last = self._move, None
        if move is not None:

            def take_back() -> None:
                move.undo(current)
                self._move = None
                if self._average is not None:
                    self._average.pending = 0

            last = LookBack(self.rule.name, move, current, batch, take_back)
        is_measured = bool({"displacement", "last-line"} & self.rule.needs)
        return StepLine(current, self.layers, self.direction, batch, begun, last, is_measured=is_measured)

    def _answer(self, line: StepLine, reading: Reading) -> tuple[StepSizes, str | None]:
        """The rule's step sizes, and why the step cannot be taken, if so."""
        m = reading.measurement
        if reading.fault is not None:
            refusal = self.rule.on_fault(reading.fault, m, line)
            return StepSizes.none(len(self.layers), refusal), refusal
        if self._average is not None:
            self._average.take_in(self._parameters)
        sizes = self.rule.step_sizes(m, line)
        return sizes, sizes.refusal or line.overflow(m, sizes)

    def _go(self, line: StepLine, sizes: StepSizes) -> None:
        number = self.param_groups[0]["steps"] - self.param_groups[0]["skipped"] + 1
        if "last-line" in self.rule.needs or self.rule.gradient_share:
            self._move = Move.along(line, sizes, self._average, number, self._move)
            self._move.undo(line.slots, -1.0)
        else:
            line.go(sizes)
        if self._average is not None:
            self._average.pending = number

    @torch.no_grad()
    def _show(self, *, average: bool) -> None:
        if self._average is not None and self.is_averaged != average:
            mark.compare(self._average, slots(self.param_groups), self.layers)
            self._average.exchange(self._parameters)
            if self.forward is not None:
                sharding.reshard(self.forward.model)

    def _forget(self) -> None:
        """What belonged to the finished step, or to one that failed, is not part of the next."""
        self._forget_gradient()
        if self.forward is not None:
            self.forward.forget()
            self.forward.keeps_random_state = self._move is not None and self.rule.wants_replay

    def _forget_gradient(self) -> None:
        self._losses.clear()
        if self.weight_gradient is not None:
            self.weight_gradient.reset()

    def _note(self, line: StepLine, m: Measurement, sizes: StepSizes, skipped: str | None, evaluations: int) -> None:
        eta = 0.0 if skipped else line.multiplier * sizes.eta
        for group in self.param_groups:
            group["steps"] += 1
            group["skipped"] += skipped is not None
            group["sum_eta"] += eta
        self.last = Step(
            number=self.param_groups[0]["steps"],
            measurement=m,
            eta=eta,
            lr=line.multiplier,
            sum_eta=self.param_groups[0]["sum_eta"],
            skipped=skipped,
            guarantee=None if skipped else line.proved_decrease(self.rule, m, sizes, self.weight_gradient),
            standing=sizes.standing,
            evaluations=evaluations,
            **self.rule.notes(),
        )
