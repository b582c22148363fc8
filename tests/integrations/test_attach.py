"""What lorate.attach changes in a Trainer, and what it refuses."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_kinds
from datasets import Dataset
from test_transformers import arguments, language_model, pad, texts
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

import lorate
from lorate.errors import LorateError


def trainer(path: Path, options: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    args = TrainingArguments(**arguments(path, **settings))
    return Trainer(language_model(), args, train_dataset=texts(), data_collator=pad, **(options or {}))


def defaults(path: Path, **settings: Any) -> Trainer:
    given = arguments(path, **settings)
    for name in ("max_grad_norm", "lr_scheduler_type"):
        if name not in settings:
            given.pop(name)
    return Trainer(language_model(), TrainingArguments(**given), train_dataset=texts(), data_collator=pad)


class Settings(TrainerCallback):
    """What is in force while it trains."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen = args.max_grad_norm, str(args.lr_scheduler_type.value)


def test_defaults_are_set_right_while_training_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, look = defaults(tmp_path), Settings()
    own.add_callback(look)
    with caplog.at_level(logging.WARNING, "lorate"):
        lorate.attach(own)
        own.train()
    assert look.seen == (0.0, "constant")
    assert own.args.max_grad_norm == 1.0 and own.args.lr_scheduler_type.value == "linear"
    (said,) = [record.getMessage() for record in caplog.records if record.name == "lorate"]
    assert said.startswith("lorate trains with max_grad_norm=0.0 and lr_scheduler_type=constant")
    assert [entry["learning_rate"] for entry in own.state.log_history if "loss" in entry] == [1.0] * 3


def test_a_warm_up_that_was_asked_for_stays(tmp_path: Path) -> None:
    own = lorate.attach(defaults(tmp_path, warmup_steps=4))
    own.train()
    assert [entry["learning_rate"] for entry in own.state.log_history if "loss" in entry] == [0.0, 0.25, 0.5]


def test_the_schedule_of_a_plain_baseline_is_the_users(tmp_path: Path) -> None:
    own, look = defaults(tmp_path), Settings()
    own.add_callback(look)
    lorate.attach(own, "constant", lr=0.1).train()
    assert look.seen == (1.0, "linear")


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "clipping": ({"max_grad_norm": 0.5}, {}, r"max_grad_norm=0.5 clips .* set max_grad_norm=0"),
    "closure": ({}, {"rule": "backtracking"}, "needs a closure, which no Trainer has"),
    "rule": ({}, {"rule": "nonsense"}, "unknown rule 'nonsense'; known: auto"),
    "constant": ({}, {"rule": "constant"}, "needs lr="),
    "lr": ({}, {"lr": -1.0}, "lr must be a finite number >= 0"),
    "smoothness": ({}, {"rule": "sharp"}, "needs the smoothness L"),
    "option": ({}, {"learning_rate": 1e-4}, "no option 'learning_rate'; beside rule and monitor: lr, "),
    "monitor": ({}, {"monitor": True}, "monitor= takes a Monitor, or a directory for the records, got True"),
    "callback": ({}, {"callback": PrinterCallback()}, "takes a LorateCallback, got <.*PrinterCallback"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_mistakes_get_one_sentence_and_change_nothing(fault: str, tmp_path: Path) -> None:
    settings, options, sentence = REFUSED[fault]
    own = trainer(tmp_path, **settings)
    before = set(vars(own))
    with pytest.raises(LorateError, match=sentence):
        lorate.attach(own, **options)
    assert set(vars(own)) == before and own.optimizer_cls_and_kwargs is None


def test_attached_twice(tmp_path: Path) -> None:
    own = lorate.attach(trainer(tmp_path))
    with pytest.raises(LorateError, match=r"attached already: call lorate\.attach once"):
        lorate.attach(own)


def test_an_optimizer_of_its_own(tmp_path: Path) -> None:
    model = language_model()
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    args = TrainingArguments(**arguments(tmp_path))
    own = Trainer(model, args, train_dataset=texts(), data_collator=pad, optimizers=(sgd, None))
    with pytest.raises(LorateError, match="an optimizer already, SGD; leave optimizers="):
        lorate.attach(own)
    own = trainer(tmp_path, {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})})
    with pytest.raises(LorateError, match="an optimizer already, SGD"):
        lorate.attach(own)


def test_a_schedule_of_another_optimizer(tmp_path: Path) -> None:
    model = language_model()
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    args = TrainingArguments(**arguments(tmp_path))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 3)
    own = Trainer(model, args, train_dataset=texts(), data_collator=pad, optimizers=(None, schedule))
    with pytest.raises(LorateError, match="a schedule already, CosineAnnealingLR, of another optimizer"):
        lorate.attach(own)


def test_a_trainer_that_makes_another_one(tmp_path: Path) -> None:
    class Own(Trainer):
        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=0.1)
            return self.optimizer

    own = Own(language_model(), TrainingArguments(**arguments(tmp_path)), train_dataset=texts(), data_collator=pad)
    lorate.attach(own)
    with pytest.raises(LorateError, match="Own makes its own optimizer, SGD"):
        own.train()


def test_what_is_not_a_trainer() -> None:
    with pytest.raises(LorateError, match="expected a Trainer of transformers or TRL, got Linear"):
        lorate.attach(torch.nn.Linear(1, 1))


def test_deepspeed_and_data_parallel_copies(tmp_path: Path) -> None:
    own = trainer(tmp_path)
    own.is_deepspeed_enabled = True
    with pytest.raises(LorateError, match=r"DeepSpeed merges .* FSDP2"):
        lorate.attach(own)
    own = trainer(tmp_path)
    own.args._n_gpu = 2
    with pytest.raises(LorateError, match="2 GPUs with DataParallel"):
        lorate.attach(own)


def test_two_monitors(tmp_path: Path) -> None:
    from lorate.integrations.callback import LorateCallback

    with pytest.raises(LorateError, match="callback= has a monitor of its own"):
        lorate.attach(trainer(tmp_path), monitor=tmp_path / "records", callback=LorateCallback())


def test_a_callback_for_each_trainer(tmp_path: Path) -> None:
    from lorate.integrations.callback import LorateCallback

    callback = LorateCallback()
    lorate.attach(trainer(tmp_path), callback=callback)
    with pytest.raises(LorateError, match="belongs to another trainer"):
        lorate.attach(trainer(tmp_path), callback=callback)


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_that_does_not_call_compute_loss_is_refused_by_name(tmp_path: Path) -> None:
    prompts = Dataset.from_dict({"prompt": ["w1 w2 w3"] * 8})
    given = {"reward_funcs": trainer_kinds.rewards}
    for rule, options in (("adaptive-loss", {}), ("auto", {})):
        own = trainer_kinds.experimental("Online_DPO", tmp_path, prompts, given, max_new_tokens=4)
        lorate.attach(own, rule, **options)
        before = [p.clone() for p in own.model.parameters() if p.requires_grad]
        if rule == "adaptive-loss":
            with pytest.raises(LorateError, match=r"OnlineDPOTrainer does not call compute_loss.*'auto'"):
                own.train()
        else:
            own.train()
        after = [p for p in own.model.parameters() if p.requires_grad]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == (rule == "adaptive-loss")


@pytest.mark.filterwarnings("ignore")
def test_samples_that_are_used_again_are_warned_of(tmp_path: Path) -> None:
    own = trainer_kinds.grpo(tmp_path, num_iterations=2)
    with pytest.warns(UserWarning, match="num_iterations=2 trains on the same samples again"):
        lorate.attach(own)


def test_loggers_get_the_step_size_wherever_they_stand(tmp_path: Path) -> None:
    class Logger(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, Any]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                self.seen.append(dict(logs))

    first, last = Logger(), Logger()
    own = trainer(tmp_path, {"callbacks": [first]})
    own.callback_handler.callbacks.insert(0, first)
    lorate.attach(own)
    own.callback_handler.callbacks.insert(0, last)
    own.train()
    for entry in (*first.seen, *last.seen):
        assert entry["eta"] > 0 and entry["stacked_norm"] > 0


def test_arguments_can_be_shared_with_another_trainer(tmp_path: Path) -> None:
    """Nothing of lorate's stays in the arguments that another Trainer may share."""
    args = TrainingArguments(**arguments(tmp_path, max_grad_norm=1.0))
    one, two = (Trainer(language_model(), args, train_dataset=texts(), data_collator=pad) for _ in range(2))
    lorate.attach(one).train()
    two.train()
    assert args.max_grad_norm == 1.0 and type(two.optimizer.optimizer).__name__ == "AdamW"
