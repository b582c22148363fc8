"""lorate's optimizer inside accelerate's wrapper takes the steps that it takes alone."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from test_transformers import language_model
from torch.utils.data import DataLoader

import lorate


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def rows():
    return [{"input_ids": row, "labels": row} for row in torch.arange(24 * 6).reshape(24, 6) % 20]


def accelerated(rule: str, micro_batches: int, **options) -> list[float]:
    """Step sizes of three steps of eight rows."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    model = language_model()
    own = lorate.create_optimizer(model, rule)
    accelerator = Accelerator(gradient_accumulation_steps=micro_batches, **options)
    loader = DataLoader(rows(), batch_size=8 // micro_batches)
    model, optimizer, loader = accelerator.prepare(model, own, loader)
    etas, parts = [], []
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            own.record_loss(loss / micro_batches)
            parts = parts[-micro_batches + 1 :] if micro_batches > 1 else []
            parts.append(batch)
            own.replay = lambda parts=tuple(parts): sum(model(**part).loss for part in parts) / micro_batches
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            etas.append(own.last.eta)
    return etas


def alone(rule: str) -> list[float]:
    torch.manual_seed(0)
    model, etas = language_model(), []
    optimizer = lorate.create_optimizer(model, rule)
    for batch in DataLoader(rows(), batch_size=8):

        def closure(batch=batch):
            loss = model(**batch).loss
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
        etas.append(optimizer.last.eta)
    return etas


@pytest.mark.parametrize("rule", ["auto", "adaptive-loss"])
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_the_steps_are_those_of_a_plain_loop(rule, micro_batches):
    found = accelerated(rule, micro_batches)
    assert len(set(found)) > 1 and found == pytest.approx(alone(rule), rel=1e-4)


def test_bfloat16():
    assert accelerated("adaptive-loss", 1, mixed_precision="bf16") == pytest.approx(alone("adaptive-loss"), rel=0.02)
