"""What people do to a Trainer between ``lorate.attach`` and the end."""

import copy
import logging
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from test_trainer_life import adapters, hooks, records, trainer
from test_transformers import arguments, language_model, pad, texts
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.errors import LorateError
from lorate.integrations.callback import LorateCallback


def test_a_copy_trains_like_the_original(tmp_path: Path) -> None:
    own = lorate.attach(trainer_without_records(tmp_path))
    other = copy.deepcopy(own)
    before = adapters(own.model)
    other.train()
    assert torch.equal(before, adapters(own.model))
    record = other.lorate_attachment._callback.monitor.record
    assert record["loss"] == pytest.approx(other.state.log_history[2]["loss"], abs=1e-4) and record["samples"] == 24
    own.train()
    assert torch.equal(adapters(other.model), adapters(own.model))


def trainer_without_records(path: Path, **settings: Any) -> Any:
    args = TrainingArguments(**arguments(path, **settings))
    return Trainer(language_model(), args, train_dataset=texts(), data_collator=pad)


def switch(model: Any) -> list[torch.nn.Parameter]:
    """Another adapter is trained from now on, as for the next task."""
    model.add_adapter("next", peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.set_adapter("next")
    return [p for name, p in model.named_parameters() if ".next." in name]


def thaw(model: Any) -> list[torch.nn.Parameter]:
    """The head is trained too from now on."""
    head: torch.nn.Parameter = model.get_output_embeddings().weight.requires_grad_()
    return [head]


@pytest.mark.parametrize("change", [switch, thaw])
def test_what_became_trainable_between_two_runs_is_trained(change: Any, tmp_path: Path) -> None:
    own = trainer(tmp_path)
    own.train()
    new = change(own.model)
    before = [p.detach().clone() for p in new]
    own.train()
    assert any(not torch.equal(p, was) for p, was in zip(new, before, strict=True))
    assert hooks(own.model) == 0
    assert [r["step"] for r in records(tmp_path / "records-2")] == [1, 2, 3]


class Without(Trainer):
    """Computes its loss elsewhere, as OnlineDPO does."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = model(**self._prepare_inputs(inputs)).loss
        self.accelerator.backward(loss)
        return loss.detach()


def test_what_is_missing_or_begins_again_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lorate"):
        own = trainer(tmp_path, cls=Without)
        own.train()
        thaw(own.model)
        own.train()
    said = [record.getMessage() for record in caplog.records if record.name == "lorate"]
    assert said == [
        "Without does not call compute_loss: the records have no losses.",
        "lorate starts over: the adapters are not those that the last training left.",
    ]


class Times(Trainer):
    """Multiplies the loss."""

    factor = 1.0

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        return super().compute_loss(*args, **options) * self.factor


@pytest.mark.filterwarnings("ignore:Step 1 was skipped")
@pytest.mark.parametrize(
    ("factor", "settings", "why"),
    [
        (float("nan"), {}, "the loss is nan at the last of 3"),
        (0.0, {}, "the gradient was 0"),
        (1.0, {"warmup_steps": 1, "lr_scheduler_type": "constant_with_warmup", "max_steps": 1}, "lr was 0"),
    ],
)
def test_a_run_that_moved_nothing_says_so(factor: float, settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    own = trainer(tmp_path, cls=Times, **settings)
    own.factor = factor
    before = adapters(own.model)
    with pytest.warns(UserWarning, match=rf"^Nothing was trained: no step moved the adapters \({why}"):
        own.train()
    assert torch.equal(before, adapters(own.model))


def test_another_model_is_refused_where_the_trainer_does_not_train_it(tmp_path: Path) -> None:
    own = trainer(tmp_path)
    own.model = language_model()
    with pytest.raises(LorateError, match=r"trainer\.model was replaced, but the Trainer still trains"):
        own.train()
    own = trainer(tmp_path)
    own.train()
    own.model = own.model_wrapped = language_model()
    before = adapters(own.model)
    own.train()
    assert not torch.equal(before, adapters(own.model))


@pytest.mark.parametrize("is_ours", [True, False])
def test_callbacks_may_be_taken_out_and_put_in_front(is_ours: bool, tmp_path: Path) -> None:
    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            assert own.optimizer.optimizer.is_averaged

    own = trainer(tmp_path)
    own.callback_handler.callbacks.insert(0, Look())
    if is_ours:
        own.remove_callback(LorateCallback)
    own.train()
    assert len(records(tmp_path / "records")) == 3 and hooks(own.model) == 0


class Set(TrainerCallback):
    """Sets arguments in the first step, as a search for hyperparameters does before it."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for name, value in self.values.items():
            setattr(args, name, value)


def test_clipping_that_was_set_while_training_is_refused(tmp_path: Path) -> None:
    own = trainer(tmp_path)
    before = adapters(own.model)
    own.add_callback(Set(max_grad_norm=0.01))
    with pytest.raises(LorateError, match=r"max_grad_norm was set to 0.01 while training"):
        own.train()
    assert torch.equal(before, adapters(own.model))
    own = lorate.attach(trainer_without_records(tmp_path), "constant", lr=0.1)
    own.add_callback(Set(max_grad_norm=0.01))
    own.train()


def test_a_search_for_hyperparameters(tmp_path: Path) -> None:
    """As transformers does it with optuna: another model and other arguments each time, the last model deleted."""
    args = TrainingArguments(**arguments(tmp_path))
    own = Trainer(model_init=language_model, args=args, train_dataset=texts(), data_collator=pad)
    lorate.attach(own, monitor=tmp_path / "trial")

    own._hp_search_setup = lambda trial: setattr(own.args, "learning_rate", 1e-3)
    with pytest.warns(UserWarning, match=r"not take learning_rate from TrainingArguments: .* and its direction itself"):
        own.train()
    own.model = own.model_wrapped = None
    own.train()  # warnings are errors here: it is said once
    assert [len(records(tmp_path / name)) for name in ("trial", "trial-2")] == [3, 3]


def test_a_checkpoint_without_the_state_of_the_optimizer_is_told(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 3, "save_only_model": True}
    lorate.attach(trainer_without_records(tmp_path, **settings)).train()
    own = lorate.attach(trainer_without_records(tmp_path, max_steps=4, **settings))
    with pytest.warns(
        UserWarning, match=r"checkpoint of step 3 holds no state .* 'auto' starts over from its adapters"
    ):
        own.train(resume_from_checkpoint=True)


def test_back_to_a_checkpoint_without_state_keeps_nothing_of_later_steps(tmp_path: Path) -> None:
    own = trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2, save_only_model=True)
    own.train()
    with pytest.warns(UserWarning, match="checkpoint of step 2 holds no state"):
        own.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    fresh = lorate.attach(trainer_without_records(tmp_path, max_steps=4))
    with pytest.warns(UserWarning, match="checkpoint of step 2 holds no state"):
        fresh.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [r["step"] for r in records(tmp_path / "records-2")] == [1, 2]
    assert torch.equal(adapters(own.model), adapters(fresh.model))


def test_the_checkpoint_of_another_optimizer(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 3}
    trainer_without_records(tmp_path, **settings).train()
    own = lorate.attach(trainer_without_records(tmp_path, max_steps=4, **settings))
    with pytest.raises(LorateError, match=r"saved by another optimizer.*; do not resume, but begin a new run"):
        own.train(resume_from_checkpoint=True)
