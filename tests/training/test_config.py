"""Options: every mistake is one sentence."""

from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.training import TrainConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "best"}, "unknown rule 'best'; known: auto, constant"),
        ({"rank": 0}, "rank must be 1 or more, got 0"),
        ({"rank": 2.5}, "rank must be a whole number, got 2.5"),
        ({"rank": True}, "rank must be a whole number, got True"),
        ({"alpha": 0}, "alpha must be a finite number above 0, got 0"),
        ({"alpha": "laws"}, "alpha must be a number, got 'laws'"),
        ({"alpha": "law", "rank": 0}, "rank r must be a whole number of at least 1, got 0"),
        ({"epochs": 0}, "epochs must be above 0 and at most 1,000,000"),
        ({"keep": "first"}, "keep must be one of best, last"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"steps": -1}, "steps must be 1 or more"),
        ({"targets": "q_proj"}, "targets must be a list of names or left out, got 'q_proj'"),
        ({"targets": []}, "targets must be at least one layer name"),
        ({"task": "poetry"}, "task must be one of causal-lm, sequence-classification, image-classification"),
        ({"rule": "constant"}, r"rule 'constant' needs lr \(--lr\)"),
        ({"rule": "theory"}, "needs the smoothness L"),
        ({"rule": "backtracking"}, "tries several steps on the whole data, which the Trainer cannot do"),
        ({"lr": float("nan")}, "lr must be a finite number above 0"),
        ({"smoothness": 3.0}, "does not use smoothness"),
        ({"eval_fraction": 1.0}, "eval_fraction must be between 0 and 1"),
        ({"on_alarm": "cry"}, "on_alarm must be one of warn, stop, halve, got 'cry'"),
        ({"dtype": "int4"}, "dtype must be one of float32"),
        ({"learning_rate": 1.0}, "options.yaml holds an unknown option 'learning_rate'"),
        ({"batchsize": 1}, r"unknown option 'batchsize'; did you mean batch_size\?"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LorateError, match=message):
        TrainConfig.from_mapping(options, source="options.yaml")


def test_hyphens_and_round_trip() -> None:
    config = TrainConfig.from_mapping({"batch-size": 2, "rank": 4, "alpha": 4}, source="options.yaml")
    assert config.batch_size == 2 and config.scaling == 1.0 and config.resolved_lr == 1.0
    assert TrainConfig.from_mapping(config.to_mapping(), source="again") == config


def test_alpha_by_the_law_is_an_ordinary_number_from_then_on() -> None:
    assert TrainConfig.from_mapping({"alpha": "law", "rank": 16}, source="x").to_mapping()["alpha"] == 1024.0
    assert TrainConfig.from_mapping({"alpha": "law"}, source="x").scaling == pytest.approx(256 / 8**0.5)


def test_intervals_follow_the_number_of_steps() -> None:
    assert TrainConfig(steps=40).evaluation_interval == 5 and TrainConfig(steps=100).evaluation_interval == 13
    assert TrainConfig(steps=3).checkpoint_interval == 1
    assert TrainConfig(steps=4000).checkpoint_interval == 200
    assert TrainConfig(steps=40, eval_every=7, save_every=9).evaluation_interval == 7


@pytest.mark.parametrize(
    ("given", "records", "steps"),
    [
        ({}, 30, 100),
        ({}, 400, 300),
        ({}, 9000, 1000),
        ({"epochs": 2}, 30, 15),
        ({"epochs": 0.5}, 8000, 1000),
        ({"steps": 7}, 30, 7),
    ],
)
def test_the_number_of_steps_follows_the_data(given: dict[str, Any], records: int, steps: int) -> None:
    config = TrainConfig(**given).with_steps(records, samples=4)
    assert (config.step_count, config.epochs) == (steps, None)


def test_steps_and_epochs_exclude_each_other() -> None:
    with pytest.raises(LorateError, match="give steps or epochs, not both"):
        TrainConfig(steps=3, epochs=1)
