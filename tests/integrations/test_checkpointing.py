"""Gradient checkpointing computes every layer twice; no rule may notice."""

from pathlib import Path
from typing import Any

import pytest
from test_transformers import arguments, language_model, pad, texts
from transformers import Trainer, TrainingArguments

import lorate
from lorate.jsonl import read_jsonl
from lorate.rules import RULES

OPTIONS = {"constant": {"lr": 0.1}, "relative": {"lr": 0.1}} | {
    name: {"smoothness": 10.0} for name in ("theory", "sharp", "one-factor", "majorizer")
}


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if "closure" not in rule.needs])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, at a probe without gradients
def test_every_rule_takes_the_same_steps(rule: str, tmp_path: Path) -> None:
    plain, *checkpointed = (_records(rule, tmp_path / str(how), how) for how in (None, False, True))
    for records in checkpointed:
        assert len(records) == 3
        for one, other in zip(plain, records, strict=True):
            for name in ("loss", "eta", "grad_norm", "weight_grad_norm", "stacked_norm", "smoothness"):
                same = other[name] == one[name] or other[name] == pytest.approx(one[name], rel=1e-5)
                assert same, (one["step"], name)


def _records(rule: str, place: Path, reentrant: bool | None) -> list[dict[str, Any]]:
    """Of three steps, without checkpointing (None), or with it in one of torch's two ways."""
    on = reentrant is not None
    options = {
        "gradient_checkpointing": on,
        "gradient_checkpointing_kwargs": {"use_reentrant": reentrant} if on else None,
    }
    settings = TrainingArguments(**arguments(place, **options))
    trainer = lorate.attach(
        Trainer(language_model(), settings, train_dataset=texts(), data_collator=pad),
        rule,
        monitor=place / "monitor",
        **OPTIONS.get(rule, {}),
    )
    trainer.train()
    assert trainer.model.is_gradient_checkpointing == on
    return read_jsonl(place / "monitor" / "metrics.jsonl").records
