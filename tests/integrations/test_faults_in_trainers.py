"""Bad batches in the transformers Trainer: skipped and named, and the steps after them are as if they had not been."""

import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import IterableDataset
from test_transformers import arguments, language_model, pad, texts
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.jsonl import read_jsonl

RULES: dict[str, dict[str, Any]] = {
    "auto": {},
    "adaptive-loss": {},
    "adaptive": {},
    "normalized": {"lr": 0.1},
    "majorizer": {"smoothness": 100.0},
    "constant": {"lr": 1.0},
}
SIZE, BAD = 4, 7
LOSS = r"the loss is (nan|inf)"
GRADIENT = r"the gradient of .* is not finite \(1 of 8 parameters\)"


class Fault(TrainerCallback):
    """Something that goes wrong in one step."""

    message = LOSS

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.active = model, False
        self.prepare()

    def prepare(self) -> None: ...

    def spoil(self) -> None: ...

    def repair(self) -> None: ...

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.active = state.global_step + 1 == BAD
        if self.active:
            self.spoil()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.active:
            self.repair()
        self.active = False


class NonFiniteLoss(Fault):
    def prepare(self) -> None:
        self.model.register_forward_hook(self.change)

    def change(self, model: Any, args: Any, output: Any) -> None:
        if self.active:
            output.loss = output.loss * math.inf


class NonFiniteGradient(Fault):
    message = GRADIENT

    def prepare(self) -> None:
        parameter = next(p for p in self.model.parameters() if p.requires_grad)
        parameter.register_hook(lambda gradient: gradient * (math.nan if self.active else 1.0))


class FrozenWeight(Fault):
    def spoil(self) -> None:
        self.weight = next(p for n, p in self.model.named_parameters() if "layers.0.mlp" in n)
        self.kept = self.weight.detach().clone()
        self.weight.data[0, 0] = math.nan

    def repair(self) -> None:
        self.weight.data.copy_(self.kept)


class OnlyPadding(Fault):
    """The data hold it."""


FAULTS = {
    "loss": NonFiniteLoss,
    "gradient": NonFiniteGradient,
    "frozen weight": FrozenWeight,
    "batch of padding only": OnlyPadding,
}


def rows(fault: str | None, steps: int, size: int) -> list[dict[str, Any]]:
    """The batches of all steps in order; the bad one is left out if there is no fault."""
    found = [texts(size * steps)[i * size : (i + 1) * size] for i in range(steps)]
    if fault is None:
        del found[BAD - 1 : BAD]
    if fault == "batch of padding only":
        found[BAD - 1] = [{**row, "labels": [-100] * len(row["labels"])} for row in found[BAD - 1]]
    return [row for batch in found for row in batch]


def train(
    rule: str, fault: str | None, place: Path, *, accumulate: int = 1, steps: int = 9, **options: Any
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    data = rows(fault, steps, SIZE)
    settings = TrainingArguments(
        **arguments(
            place,
            max_steps=len(data) // SIZE,
            per_device_train_batch_size=SIZE // accumulate,
            gradient_accumulation_steps=accumulate,
        )
    )
    model = language_model()
    trainer = lorate.attach(
        Trainer(model, settings, train_dataset=IterableDataset.from_generator(lambda: iter(data)), data_collator=pad),
        rule,
        monitor=place / "monitor",
        **options,
    )
    if fault is not None:
        trainer.add_callback(FAULTS[fault](model))
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    return weights, read_jsonl(place / "monitor" / "metrics.jsonl").records


Run = tuple[torch.Tensor, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Run]:
    """The run in which the bad batch is left out, once for all faults of a rule."""

    @cache
    def run(rule: str, accumulate: int) -> Run:
        return train(rule, None, tmp_path_factory.mktemp("without"), accumulate=accumulate, **RULES[rule])

    return run


@pytest.mark.filterwarnings("ignore:Step 7 was skipped")
@pytest.mark.fault("bad batch in the Trainer")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_bad_batch_is_skipped_and_named_and_leaves_no_trace(
    rule: str, fault: str, without: Callable[[str, int], Run], tmp_path: Path
) -> None:
    expected, clean = without(rule, 1)
    weights, records = train(rule, fault, tmp_path / "with", **RULES[rule])
    bad = records.pop(BAD - 1)
    assert torch.equal(weights, expected)
    assert re.fullmatch(FAULTS[fault].message, bad["skipped"])
    assert bad["alarms"][0]["kind"] == "non-finite" and bad["eta"] == 0
    assert [(r["loss"], r["eta"], r["skipped"]) for r in records] == [(r["loss"], r["eta"], None) for r in clean]


class HalfBad(Fault):
    """Only the first of two micro-batches is bad."""

    def prepare(self) -> None:
        self.calls = 0
        self.model.register_forward_hook(self.change)

    def spoil(self) -> None:
        self.calls = 0

    def change(self, model: Any, args: Any, output: Any) -> None:
        if self.active:
            self.calls += 1
            if self.calls % 2 == 1:  # also when both are evaluated again
                output.loss = output.loss * math.nan


@pytest.mark.filterwarnings("ignore:Step 7 was skipped")
@pytest.mark.fault("bad batch in the Trainer")
@pytest.mark.parametrize("rule", RULES)
def test_one_bad_micro_batch_of_two_is_not_blamed_on_the_step_before(
    rule: str, without: Callable[[str, int], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "first micro-batch", HalfBad)
    expected, _ = without(rule, 2)
    weights, records = train(rule, "first micro-batch", tmp_path / "with", accumulate=2, **RULES[rule])
    assert records[BAD - 1]["skipped"] == "the loss is nan"
    assert torch.equal(weights, expected)


@pytest.mark.fault("label out of range")
@pytest.mark.parametrize("rule", ["auto", "adaptive", "constant"])
def test_a_label_out_of_range_is_an_error_of_the_model_and_the_adapters_stay(rule: str, tmp_path: Path) -> None:
    data = rows(None, 4, SIZE)
    data[9] = {**data[9], "labels": [99] * len(data[9]["labels"])}
    settings = TrainingArguments(**arguments(tmp_path, max_steps=3, per_device_train_batch_size=SIZE))
    model = language_model()
    monitor = lorate.Monitor(tmp_path / "monitor")
    trainer = lorate.attach(
        Trainer(model, settings, train_dataset=IterableDataset.from_generator(lambda: iter(data)), data_collator=pad),
        rule,
        monitor=monitor,
        **RULES[rule],
    )
    with monitor, pytest.raises(IndexError, match="Target 99 is out of bounds"):
        trainer.train()
    assert len(read_jsonl(tmp_path / "monitor" / "metrics.jsonl").records) == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())
