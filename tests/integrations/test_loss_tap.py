"""The training loss, read where it is differentiated."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.trainer import dpo_trainer, reward_trainer

import lorate
from lorate.integrations.loss_tap import LossTap
from peft_models import linear_model


def tapped(rule: str = "auto") -> tuple[Any, LossTap, lorate.LoraOptimizer]:
    """Model, tap and optimizer of a trainer that has nothing but a loss."""
    model = linear_model()

    def compute_loss(model: Any, inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs.pop("x")).square().mean()

    trainer = SimpleNamespace(
        args=SimpleNamespace(device=torch.device("cpu")),
        compute_loss_context_manager=nullcontext,
        _metrics={"train": []},
    )
    tap = LossTap(trainer, compute_loss)
    return model, tap, lorate.create_optimizer(model, rule)


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_loss_scale_and_micro_batches_are_taken_out(scale: float) -> None:
    """Two micro-batches, each halved and multiplied by the scale of float16 training."""
    model, tap, optimizer = tapped()
    tap.begin(optimizer, lambda: scale)
    losses = []
    for x in torch.randn(2, 5, 6, dtype=torch.float64):
        loss = tap(model, {"x": x})
        (loss / 2 * scale).backward()
        losses.append(loss.item())
    told = float(torch.stack([x.double() for x in optimizer._losses]).sum())
    assert told == pytest.approx(sum(losses) / 2)
    assert float(optimizer.replay()) == told  # type: ignore[union-attr]
    assert tap.has_seen_a_loss and tap.take() == (10, 0)
    assert optimizer.replay is None and not tap.has_seen_a_loss


def test_a_pass_without_gradients_is_not_counted_and_neither_is_one_before_or_after_training() -> None:
    model, tap, optimizer = tapped()
    tap(model, {"x": torch.ones(3, 6, dtype=torch.float64)}).backward()
    tap.begin(optimizer, None)
    with torch.no_grad():
        tap(model, {"x": torch.ones(3, 6, dtype=torch.float64)})
    assert tap.take() == (0, 0)
    tap.end()
    tap(model, {"x": torch.ones(3, 6, dtype=torch.float64)}).backward()
    assert tap.take() == (0, 0) and not optimizer._losses


def test_two_passes_over_one_batch_are_one_batch() -> None:
    model, _, optimizer = tapped()
    trainer = SimpleNamespace(args=SimpleNamespace(device=torch.device("cpu")))
    tap = LossTap(trainer, lambda model, inputs: model(inputs["x"]).square().mean())
    tap.begin(optimizer, None)
    batches = [{"x": torch.ones(rows, 6, dtype=torch.float64)} for rows in (3, 4)]
    for batch in batches:
        (tap(model, batch) + tap(model, batch)).backward()
    assert tap.take() == (7, 0)
    tap(model, batches[1]).backward()
    assert tap.take() == (4, 0)


def test_rules_that_do_not_look_back_keep_no_batch() -> None:
    model, tap, optimizer = tapped("normalized")
    tap.begin(optimizer, None)
    tap(model, {"x": torch.ones(3, 6, dtype=torch.float64)}).backward()
    assert tap.has_seen_a_loss and not tap._micro_batches and optimizer.replay is None


BATCHES: dict[str, tuple[dict[str, Tensor], tuple[int, int]]] = {
    "padded": (
        {"input_ids": torch.ones(2, 5), "attention_mask": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])},
        (2, 7),
    ),
    "without a mask": ({"input_ids": torch.ones(2, 5)}, (2, 10)),
    "rows in one": ({"input_ids": torch.ones(1, 7), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]])}, (2, 7)),
    "pairs": ({f"{kind}_attention_mask": torch.ones(3, 4) for kind in ("chosen", "rejected")}, (3, 24)),
    "completions": ({"prompt_mask": torch.ones(3, 4), "completion_mask": torch.ones(3, 2)}, (3, 18)),
    "images": ({"pixel_values": torch.ones(6, 1, 4, 4)}, (6, 0)),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_samples_and_tokens_without_padding_are_counted(kind: str) -> None:
    _, tap, _ = tapped()
    inputs, counts = BATCHES[kind]
    tap._count(inputs)
    assert tap.take() == counts


@pytest.mark.parametrize("is_triple", [True, False])
def test_three_answers_of_tpo_in_three_rows_are_one_sample(is_triple: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.tpo import tpo_trainer

    _, tap, _ = tapped()
    collator = tpo_trainer.DataCollatorForTriplePreference(pad_token_id=0, include_reference=is_triple)
    tap._trainer.data_collator = collator
    answers = {"prompt_ids": [1, 2], "chosen_ids": [1, 2, 3], "rejected_ids": [4], "reference_ids": [5, 6]}
    tap._count(collator([answers] * 3))
    assert tap.take() == (3, 3 * (5 + 3 + (4 if is_triple else 0)))


@pytest.mark.parametrize("collator", [dpo_trainer.DataCollatorForPreference, reward_trainer.DataCollatorForPreference])
def test_a_pair_of_answers_in_two_rows_is_one_sample(collator: Any) -> None:
    _, tap, _ = tapped()
    tap._trainer.data_collator = collator(pad_token_id=0)
    pair = {"prompt_ids": [1, 2], "chosen_ids": [1, 2, 3], "rejected_ids": [4]}
    tap._count(tap._trainer.data_collator([pair] * 3))
    assert tap.take() == (3, 3 * (3 + 1) + (3 * 4 if collator is dpo_trainer.DataCollatorForPreference else 0))
