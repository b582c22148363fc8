"""Every trainer's loss is read and computed again, exactly and without a trace."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_kinds
from trainer_kinds import KINDS

import lorate
from lorate.integrations.attach import Attachment
from lorate.jsonl import read_jsonl

pytestmark = pytest.mark.filterwarnings("ignore")


def plain_attributes(trainer: Any) -> dict[str, Any]:
    kept = {}
    for name, value in vars(trainer).items():
        if isinstance(value, int | float | str | dict | list) and not name.endswith("dataset"):
            try:
                kept[name] = copy.deepcopy(value)
            except Exception:
                continue
    return {name: repr(value) for name, value in kept.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_is_exact_and_leaves_no_trace(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_kinds.build(kind, tmp_path)
    lorate.attach(trainer, monitor=tmp_path / "records")
    differences = []

    def look(self: Attachment, *_: Any) -> None:
        optimizer = self._optimizer
        assert optimizer is not None
        before, state = plain_attributes(trainer), torch.get_rng_state()
        told = float(torch.stack([x.double() for x in optimizer._losses]).sum())
        kept_state = copy.deepcopy(trainer_rng())
        with torch.no_grad():
            differences.extend(float(optimizer.replay()) - told for _ in range(2))
        torch.set_rng_state(state)
        restore_rng(kept_state)
        assert plain_attributes(trainer) == before

    original = trainer.callback_handler.on_pre_optimizer_step

    def watched(*args: Any, **options: Any) -> Any:
        look(trainer.lorate_attachment)
        return original(*args, **options)

    trainer.callback_handler.on_pre_optimizer_step = watched
    trainer.train()
    assert differences == [0.0] * 6
    records = read_jsonl(tmp_path / "records" / "metrics.jsonl").records
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [r["loss"] for r in records] == pytest.approx(logged, abs=1e-4)
    assert records[-1]["samples"] > 0 and records[-1]["eta"] > 0
    assert all(entry["eta"] > 0 for entry in trainer.state.log_history if "loss" in entry)


def trainer_rng() -> Any:
    import random

    import numpy as np

    return random.getstate(), np.random.get_state()


def restore_rng(state: Any) -> None:
    import random

    import numpy as np

    random.setstate(state[0])
    np.random.set_state(state[1])
