"""Gradient checkpointing computes every layer twice; no rule may notice."""

from pathlib import Path

import pytest
from test_transformers import arguments, language_model, pad, texts
from transformers import Trainer, TrainingArguments

import lorate
from lorate.jsonl import read_jsonl
from lorate.rates import RATES

OPTIONS = {"constant": {"lr": 0.1}} | {
    name: {"smoothness": 10.0} for name in ("theory", "sharp", "one-factor", "majorizer")
}


@pytest.mark.parametrize("rate", [name for name, rate in RATES.items() if "closure" not in rate.needs])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_every_rule_takes_the_same_steps(rate: str, tmp_path: Path) -> None:
    records = {}
    for on in (False, True):
        settings = TrainingArguments(**arguments(tmp_path / str(on), gradient_checkpointing=on))
        ours = lorate.for_trainer(rate, monitor=tmp_path / str(on) / "monitor", **OPTIONS.get(rate, {}))
        trainer = Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad, **ours)
        trainer.train()
        assert trainer.model.is_gradient_checkpointing == on
        records[on] = read_jsonl(tmp_path / str(on) / "monitor" / "metrics.jsonl").records
    assert len(records[True]) == 3
    for one, other in zip(records[False], records[True], strict=True):
        for name in ("loss", "eta", "grad_norm", "weight_grad_norm", "stacked_norm", "smoothness", "probe"):
            same = other[name] == one[name] or other[name] == pytest.approx(one[name], rel=1e-5)
            assert same, (one["step"], name)
