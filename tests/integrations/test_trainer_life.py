"""A Trainer that is started, stopped, broken and started again."""

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_transformers import arguments, language_model, pad, texts
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.jsonl import read_jsonl
from training_runs import OWN

RULES: dict[str, dict[str, Any]] = {"auto": {}, "normalized": {"lr": 0.1}, "adaptive": {}}


def trainer(path: Path, rule: str = "auto", cls: type[Trainer] = Trainer, **settings: Any) -> Any:
    args = TrainingArguments(**arguments(path, **settings))
    own = cls(language_model(), args, train_dataset=texts(), eval_dataset=texts(4), data_collator=pad)
    return lorate.attach(own, rule, monitor=path / "records", **RULES[rule])


def records(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path / "metrics.jsonl").records


def status(path: Path) -> str:
    return str(json.loads((path / "run.json").read_text())["status"])


def hooks(model: torch.nn.Module) -> int:
    """How many there are, on modules and parameters."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
    return own + sum(len(getattr(p, "_post_accumulate_grad_hooks", None) or ()) for p in model.parameters())


def adapters(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def assert_counted_once(own: Any, found: list[dict[str, Any]]) -> None:
    """The losses are those that the Trainer logs."""
    logged = [entry["loss"] for entry in own.state.log_history if "loss" in entry]
    assert [r["loss"] for r in found][-len(logged) :] == pytest.approx(logged, abs=1e-4)


def assert_let_go(own: Any) -> None:
    """No hook is left; the model can be saved and copied, and ends with the average where there is one."""
    assert hooks(own.model) == 0
    torch.save(own.model, io.BytesIO())
    copy.deepcopy(own.model)
    optimizer = own.optimizer.optimizer
    assert optimizer.is_averaged == (optimizer.rule.name == "auto")


@pytest.mark.parametrize("rule", RULES)
def test_trained_twice(rule: str, tmp_path: Path) -> None:
    own = trainer(tmp_path, rule)
    own.train()
    assert_let_go(own)
    first = adapters(own.model)
    own.train()
    assert_let_go(own)
    found = records(tmp_path / "records")
    assert [r["step"] for r in found] == [1, 2, 3, 4, 5, 6] and status(tmp_path / "records") == "finished"
    assert found[-1]["samples"] == 48 and found[-1]["sum_eta"] > found[2]["sum_eta"]
    assert_counted_once(own, found)
    assert not torch.equal(first, adapters(own.model))


class Stop(TrainerCallback):
    """Ends the run in the middle of its second step, once."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error: type[BaseException] | None = error

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1 and self.error is not None:
            error, self.error = self.error, None
            raise error("stopped here")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")])
def test_stopped_in_a_step_and_trained_again(rule: str, error: type[BaseException], word: str, tmp_path: Path) -> None:
    own = trainer(tmp_path, rule, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    own.add_callback(Stop(error))
    with pytest.raises(error, match="stopped here"):
        own.train()
    assert_let_go(own)
    assert status(tmp_path / "records") == word and len(records(tmp_path / "records")) == 1
    own.train()
    assert_let_go(own)
    found = records(tmp_path / "records")
    assert [r["step"] for r in found] == [1, 2, 3, 4] and status(tmp_path / "records") == "finished"
    assert_counted_once(own, found)


class TooLarge(Trainer):
    """Runs out of memory with more than five rows, in the second step."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **options)
        if len(inputs["input_ids"]) > 5 and self.state.global_step == 1:
            raise RuntimeError("CUDA out of memory.")
        return loss


@pytest.mark.parametrize("rule", RULES)
def test_out_of_memory_and_a_smaller_batch(rule: str, tmp_path: Path) -> None:
    own = trainer(tmp_path, rule, TooLarge, auto_find_batch_size=True)
    own.train()
    assert_let_go(own)
    found = records(tmp_path / "records")
    assert own.state.global_step == 3 and found[-1]["step"] > 3
    assert_counted_once(own, found)


def test_another_model_each_time_is_another_run(tmp_path: Path) -> None:
    """As in a search for hyper-parameters."""
    args = TrainingArguments(**arguments(tmp_path))
    own = Trainer(model_init=language_model, args=args, train_dataset=texts(), data_collator=pad)
    lorate.attach(own, monitor=tmp_path / "trial")
    models = []
    for _ in range(3):
        own.train()
        models.append(own.model)
        assert_let_go(own)
    places = [tmp_path / name for name in ("trial", "trial-2", "trial-3")]
    assert [[r["step"] for r in records(place)] for place in places] == [[1, 2, 3]] * 3
    assert [status(place) for place in places] == ["finished"] * 3
    assert torch.equal(adapters(models[0]), adapters(models[2])) and models[0] is not models[2]


def test_the_best_checkpoint_is_loaded_and_trained_on_from(tmp_path: Path) -> None:
    settings = {
        "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
        "load_best_model_at_end": True, "metric_for_best_model": "worst", "greater_is_better": True,
    }  # fmt: skip
    own = trainer(tmp_path, **settings)

    class First(TrainerCallback):
        """The first step counts as the best."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            own.score = -state.global_step

    own.add_callback(First())
    original = own.evaluate

    def evaluate(*args: Any, **options: Any) -> Any:
        return {**original(*args, **options), "eval_worst": own.score}

    own.evaluate = evaluate
    own.train()
    from safetensors.torch import load_file

    best = load_file(tmp_path / "checkpoint-1" / "adapter_model.safetensors")
    model = {name.replace(".default", ""): p for name, p in own.model.named_parameters() if p.requires_grad}
    assert all(torch.equal(best[name], model[name]) for name in best)
    start = adapters(own.model)

    class Start(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step == 0:
                own.begun = adapters(model)

    own.add_callback(Start())
    own.train()
    assert torch.equal(own.begun, start)
    assert [r["step"] for r in records(tmp_path / "records-2")] == [1, 2, 3]


@pytest.mark.parametrize("rule", RULES)
def test_resumed_with_the_same_directory_gives_the_same_numbers(rule: str, tmp_path: Path) -> None:
    def saved(path: Path, steps: int) -> Any:
        return trainer(path, rule, max_steps=steps, save_strategy="steps", save_steps=3)

    whole = saved(tmp_path / "whole", 8)
    whole.train()
    saved(tmp_path / "parts", 5).train()  # two steps more than the checkpoint holds
    rest = saved(tmp_path / "parts", 8)
    rest.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    one, other = (records(tmp_path / name / "records") for name in ("whole", "parts"))
    assert [r | OWN for r in one] == [r | OWN for r in other]
    assert torch.equal(adapters(whole.model), adapters(rest.model))
    rest.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-6"))  # the same Trainer, back again
    assert [r | OWN for r in one] == [r | OWN for r in records(tmp_path / "parts" / "records")]
    assert torch.equal(adapters(whole.model), adapters(rest.model))


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain", max_steps=6)
    plain.train()
    looking = trainer(tmp_path / "looking", max_steps=6, eval_strategy="steps", eval_steps=1, eval_on_start=True)
    looking.train()
    assert torch.equal(adapters(plain.model), adapters(looking.model))
    logged = [entry for entry in looking.state.log_history if "eval_loss" in entry]
    assert len(logged) == 7


def test_two_trainers_of_one_model_one_after_the_other(tmp_path: Path) -> None:
    own = trainer(tmp_path / "one")
    own.train()
    args = TrainingArguments(**arguments(tmp_path / "two"))
    other = Trainer(own.model, args, train_dataset=texts(), data_collator=pad)
    lorate.attach(other, "normalized", lr=0.1, monitor=tmp_path / "two" / "records").train()
    assert hooks(other.model) == 0
    assert_counted_once(other, records(tmp_path / "two" / "records"))
    assert len(records(tmp_path / "one" / "records")) == 3
    with pytest.raises(lorate.LorateError, match="holds the records of a run"):
        trainer(tmp_path / "one").train()


class Fragile(Trainer):
    """Its loss is infinite where the adapters are long."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **options)
        return loss * torch.inf if adapters(model).norm() > 1e3 else loss


@pytest.mark.filterwarnings("ignore:Step")
def test_a_step_that_is_taken_back_never_enters_the_average(tmp_path: Path) -> None:
    own = trainer(tmp_path, cls=Fragile, max_steps=8, eval_strategy="steps", eval_steps=1)

    class Push(TrainerCallback):
        """Makes the fourth step far too long."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rule = own.optimizer.optimizer.rule
            if state.global_step == 3:
                rule.control = replace(rule.control, eta=1e4)

    own.add_callback(Push())
    own.train()
    found = records(tmp_path / "records")
    assert found[3]["eta"] >= 1e4 and "the step before it was taken back" in found[4]["skipped"]
    assert all(entry["eval_loss"] < 10 for entry in own.state.log_history if "eval_loss" in entry)
    assert float(adapters(own.model).norm()) < 10
