"""Read a Trainer's loss where it is computed, and compute it again without a trace."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorate.integrations.attributes import attributes_unchanged, same_in_new_containers
from lorate.optim import LoraOptimizer
from lorate.optim.replay import RandomState, random_state, restore

_PAIRS = ("DataCollatorForPreference", "DataCollatorForVisionPreference")
_TRIPLES = ("DataCollatorForTriplePreference",)
"""Collators of TRL that put both answers of a sample into rows of their own (DPO, reward models), or three (TPO)."""


@dataclass
class MicroBatch:
    """One call of ``compute_loss`` that was differentiated."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    random_state: RandomState
    factor: Tensor


class LossTap:
    r"""Tells an optimizer the training loss of every step, and how to evaluate it again.

    Trainers scale what ``compute_loss`` returns before they differentiate it: by the number of micro-batches, of
    processes, by the loss scale of float16. So nothing is assumed and the factor is read at the backward pass,

    $$ J = \sum_{\text{micro-batches}} \ell \; \partial J / \partial \ell . $$

    A replay calls ``compute_loss`` again with the same inputs (it may take entries out of them, so a copy is kept) from
    the same random state, and puts back what it changed in the trainer.

    Args:
        trainer: the Trainer.
        compute: its ``compute_loss``.

    Attributes:
        has_seen_a_loss: whether any was differentiated since the last step.
    """

    def __init__(self, trainer: Any, compute: Callable[..., Any]) -> None:
        self._trainer, self._compute = trainer, compute
        self._optimizer: LoraOptimizer | None = None
        self._loss_scale: Callable[[], float] = lambda: 1.0
        self._micro_batches: list[MicroBatch] = []
        self._samples: list[Tensor | int] = []
        self._tokens: list[Tensor | int] = []
        self._counted: Any = None
        self.has_seen_a_loss = False

    @property
    def trainer_name(self) -> str:
        """Of its class."""
        return type(self._trainer).__name__

    def begin(self, optimizer: LoraOptimizer, loss_scale: Callable[[], float] | None) -> None:
        """Tell this optimizer from now on.

        Args:
            optimizer: gets the losses.
            loss_scale: tells the float16 loss scale in force; None without one.
        """
        self.end()
        self._optimizer = optimizer
        self._loss_scale = (lambda: 1.0) if loss_scale is None else loss_scale

    def end(self) -> None:
        """Only pass calls on."""
        self.take()
        self._optimizer = None

    def take(self) -> tuple[int, int]:
        """Samples, and tokens without padding, since the last call; the batch is let go."""
        samples, tokens = (sum(int(count) for count in counts) for counts in (self._samples, self._tokens))
        for kept in (self._samples, self._tokens, self._micro_batches):
            kept.clear()
        self.has_seen_a_loss, self._counted = False, None
        if self._optimizer is not None:
            self._optimizer.replay = None
        return samples, tokens

    def __call__(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """What ``compute_loss`` returns."""
        optimizer = self._optimizer
        if optimizer is None or not torch.is_grad_enabled():
            return self._compute(model, inputs, *args, **options)
        looks_back = "last-line" in optimizer.rule.needs
        given = (model, same_in_new_containers(inputs) if looks_back else inputs, *args)
        state = random_state(self._trainer.args.device) if looks_back else None
        self._count(inputs)
        result = self._compute(model, inputs, *args, **options)
        loss = _loss(result)
        kept = loss.detach().clone()

        def record(gradient: Tensor) -> None:
            factor = gradient.detach().double() / self._loss_scale()
            optimizer.record_loss((kept.double() * factor).sum())
            self.has_seen_a_loss = True
            if state is not None:
                self._micro_batches.append(MicroBatch(given, options, state, factor))
                optimizer.replay = self._again

        if loss.requires_grad:
            loss.register_hook(record)  # type: ignore[no-untyped-call]
        return result

    def _again(self) -> Tensor:
        shares = []
        with attributes_unchanged(self._trainer):
            for batch in self._micro_batches:
                model, inputs, *args = batch.args
                restore(batch.random_state, self._trainer.args.device)
                offload = getattr(self._trainer, "maybe_activation_offload_context", nullcontext())
                with offload, self._trainer.compute_loss_context_manager():
                    given = same_in_new_containers(inputs)
                    loss = _loss(self._compute(model, given, *args, **batch.options))
                shares.append((loss.detach().double() * batch.factor).sum())
        return torch.stack(shares).sum()

    def _count(self, inputs: Any) -> None:
        """The first tensor is the batch, unless its rows follow each other in one; text has masks, or all counts."""
        if not isinstance(inputs, Mapping) or inputs is self._counted:  # some losses take two passes (R-Drop)
            return
        self._counted = inputs
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor) and value.dim() > 0}
        first = next(iter(tensors.values()), None)
        if first is not None:
            joined = tensors.get("position_ids") if len(first) == 1 else None
            rows = _rows_of_a_sample(getattr(self._trainer, "data_collator", None))
            self._samples.append(len(first) // rows if joined is None else (joined == 0).sum())
        masks = [value for name, value in tensors.items() if name.endswith("attention_mask")]
        masks = masks or [tensors[name] for name in ("prompt_mask", "completion_mask") if name in tensors]
        ids = [value for name, value in tensors.items() if name.endswith("input_ids")]
        self._tokens += [mask.sum() for mask in masks] or [value.numel() for value in ids]


def _rows_of_a_sample(collator: Any) -> int:
    name = type(collator).__name__
    return 2 if name in _PAIRS else 2 + bool(collator.include_reference) if name in _TRIPLES else 1


def _loss(result: Any) -> Tensor:
    loss: Tensor = result[0] if isinstance(result, tuple) else result
    return loss
