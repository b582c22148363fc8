"""Records and files as people have them: what comes out of the formats of well-known data sets, programs and tools."""

import gzip
import json

import datasets
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from lorate.errors import LorateError
from lorate.tasks import load_data
from lorate.tasks.data import divided
from lorate.tasks.formats import parse_columns

LM, SEQ = "causal-lm", "sequence-classification"


def read(path, **options):
    """All records, sorted; how many, and the data."""
    data = load_data(str(path), kind=options.pop("kind", LM), **options)
    return sorted([*data.train, *data.eval], key=str), data


def lines(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "S"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TEXT_CALL = {"name": "f", "arguments": '{"a": 1}'}
CHATS = {
    "OpenAI, with weights": (
        {"messages": [SYSTEM, user("q"), assistant("a", weight=0), user("r"), assistant("b", weight=1)]},
        [SYSTEM, user("q"), assistant("a", weight=0), user("r"), assistant("b")],
    ),
    "OpenAI, calling a tool": (
        {"messages": [user("q"), {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": TEXT_CALL}]},
            {"role": "tool", "tool_call_id": "c1", "content": "21"}, assistant("b")],
         "tools": [TOOL], "parallel_tool_calls": False},
        [user("q"), assistant("", tool_calls=[{"id": "c1", **CALL}]),
         {"role": "tool", "content": "21", "tool_call_id": "c1"}, assistant("b")],
    ),
    "OpenAI, older": (
        {"messages": [user("q"), {"role": "assistant", "function_call": TEXT_CALL},
                      {"role": "function", "name": "f", "content": "21"}],
         "functions": [TOOL["function"]]},
        [user("q"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "21", "name": "f"}],
    ),
    "contents in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]},
                      assistant("a", reasoning_content="hm")]},
        [user("q!"), assistant("a", reasoning_content="hm")],
    ),
    "an empty system message": (
        {"messages": [{"role": "system", "content": " "}, user("q"), assistant("a"), user("r"), assistant("")]},
        [user("q"), assistant("a"), user("r"), assistant("", weight=0)],
    ),
    "ShareGPT": (
        {"id": "x", "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "q"},
                                      {"from": "gpt", "value": "a"}]},
        [SYSTEM, user("q"), assistant("a")],
    ),
    "ShareGPT of LLaMA-Factory": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(TEXT_CALL)},
                           {"from": "observation", "value": "21"}, {"from": "gpt", "value": "a"}],
         "system": "S", "tools": json.dumps([TOOL["function"]])},
        [SYSTEM, user("q"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "21"}, assistant("a")],
    ),
    "ShareGPT of axolotl": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "train": False},
                           {"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]},
        [user("q"), assistant("a", weight=0), user("r"), assistant("b")],
    ),
    "Hermes": (
        {"conversations": [{"from": "system", "value": "<tools> f </tools>"}, {"from": "human", "value": "q"},
                           {"from": "gpt", "value": "<tool_call>f</tool_call>"}], "tools": "[{}]", "category": "c"},
        [{"role": "system", "content": "<tools> f </tools>"}, user("q"), assistant("<tool_call>f</tool_call>")],
    ),
    "xLAM": (
        {"id": 1, "query": "q", "answers": json.dumps([{"name": "f", "arguments": {"a": 1}}]),
         "tools": json.dumps([TOOL["function"]])},
        [user("q"), assistant("", tool_calls=[CALL])],
    ),
    "Alpaca": ({"instruction": "q", "input": "c", "output": "a", "text": "Below"}, [user("q\n\nc"), assistant("a")]),
    "Alpaca, no input": ({"instruction": "q", "input": "", "output": "a"}, [user("q"), assistant("a")]),
    "Dolly": ({"instruction": "q", "context": "c", "response": "a", "category": "x"}, [user("q\n\nc"), assistant("a")]),
    "GSM8K": ({"question": "q", "answer": "a"}, [user("q"), assistant("a")]),
    "SQuAD": ({"title": "t", "context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}},
              [user("q\n\nc"), assistant("a")]),
    "OpenOrca": ({"system_prompt": "S", "question": "q", "response": "a"}, [SYSTEM, user("q"), assistant("a")]),
    "prompt and response": ({"prompt": "q", "response": "a"}, [user("q"), assistant("a")]),
    "prompt and completion, with a system message": (
        {"prompt": "q", "completion": "a", "system": "S"}, [SYSTEM, user("q"), assistant("a")],
    ),
    "prompt and completion, with an empty one": (
        {"prompt": "q", "completion": "a", "system": None}, [user("q"), assistant("a")],
    ),
    "prompt and completion, with a context": (
        {"prompt": "q", "completion": "a", "context": "c"}, [user("q\n\nc"), assistant("a")],
    ),
    "prompt and completion, with tools": (
        {"prompt": "q", "completion": "a", "tools": [TOOL]}, [user("q"), assistant("a")],
    ),
    "UltraChat": ({"prompt": "q", "messages": [user("q"), assistant("a")]}, [user("q"), assistant("a")]),
    "TRL, conversations": (
        {"prompt": [user("q"), assistant("a"), user("r")], "completion": [assistant("b")]},
        [user("q"), assistant("a", weight=0), user("r"), assistant("b")],
    ),
    "LIMA, texts by turns": (
        {"conversations": ["q", "a", "r", "b"], "source": "s"}, [user("q"), assistant("a"), user("r"), assistant("b")],
    ),
    "Capybara, pairs": (
        {"conversation": [{"input": "q", "output": "a"}, {"input": "r", "output": "b"}]},
        [user("q"), assistant("a"), user("r"), assistant("b")],
    ),
    "FLAN": ({"inputs": "q", "targets": "a", "task": "t"}, [user("q"), assistant("a")]),
    "Alpaca of LLaMA-Factory, with a history": (
        {"instruction": "r", "input": "", "output": "b", "history": [["q", "a"]]},
        [user("q"), assistant("a"), user("r"), assistant("b")],
    ),
    "OpenRouter, reasoning": (
        {"messages": [user("q"), assistant("a", reasoning="hm")]}, [user("q"), assistant("a", reasoning_content="hm")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", [True, "False"])
def test_completions_marked_as_bad_are_not_learned(tmp_path, label):
    rows = [{"prompt": f"q{i}", "completion": "a", "label": label} for i in range(3)]
    with pytest.raises(LorateError, match=r"line 1: .* KTO's records, in which false marks a bad completion"):
        read(lines(tmp_path / "d.jsonl", *rows))
    _, data = read(tmp_path / "d.jsonl", columns="prompt=prompt,completion=completion")
    assert data.record_kind == "prompt-completion"


@pytest.mark.parametrize("name", CHATS)
def test_conversations(tmp_path, name):
    record, turns = CHATS[name]
    other = json.loads(json.dumps(record).replace('"q"', '"zz"'))
    rows, data = read(lines(tmp_path / "d.jsonl", record, other))
    assert data.record_kind == "messages" and rows[0]["messages"] == turns
    tools = [TOOL] if name != "Hermes" and ("tools" in record or "functions" in record) else None
    assert rows[0]["tools"] == tools


def test_a_record_may_lack_the_system_message_that_others_have(tmp_path):
    beside = [{"system": "S"}, {}, {"system": None}]
    rows, _ = read(
        lines(tmp_path / "d.jsonl", *({"prompt": f"q{i}", "completion": "a"} | b for i, b in enumerate(beside)))
    )
    assert [row["messages"][0]["role"] for row in rows] == ["system", "user", "user"]


def test_what_was_read_and_what_not_is_said(tmp_path):
    _, data = read(lines(tmp_path / "d.jsonl", *({"id": i, "Question": f"{i}", "answer": "a"} for i in range(3))))
    assert data.format == "Question (as question), answer; not read: id"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("prompt=Frage,completion=Antwort", {"prompt": "q", "completion": "a"}),
        ("question = Frage, answer = Antwort", {"messages": [user("q"), assistant("a")], "tools": None}),
        ("text=Antwort", {"text": "a"}),
        ("prompt=Frage,completion=Frgae", r"d\.jsonl, line 1: has no column Frgae; did you mean Frage\?"),
        ("prompt=Frage", "expected the columns"),
        ("promt=Frage,completion=Antwort", r"'promt' is not a name that lorate reads; did you mean prompt\?"),
        ("prompt", "NAME=COLUMN pairs"),
    ],
)  # fmt: skip
def test_columns_of_the_users_own(tmp_path, columns, expected):
    file = lines(tmp_path / "d.jsonl", {"Frage": "q", "Antwort": "a", "n": 1}, {"Frage": "zz", "Antwort": "b", "n": 2})
    if isinstance(expected, str):
        with pytest.raises(LorateError, match=expected):
            read(file, columns=columns)
    else:
        assert read(file, columns=columns)[0][0] == expected
    assert parse_columns(None) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "answer": "b"}, {"prompt": "a", "completion": "b"}], "line 2: a record with the columns"),
        ([{"prompt": "q", "instruction": "x", "output": "b"}], "fit more than one format.*question=instruction"),
        ([{"role": "user", "text": "b", "message_id": 1}], "line 1: the column role says that a row is one message"),
        ([{"prompt": "q", "chosen": "x", "reject": "b"}], "found prompt, chosen, reject"),
        ([{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}], "message 1: content has a part"),
        ([{"messages": [user("q"), assistant("", tool_calls=[{"id": 1}])]}], "message 2: a tool call must"),
        ([{"messages": [user("q"), assistant("a")], "tools": ["f"]}], "tools must be a list of objects"),
        ([{"messages": [{"role": 1, "content": "a"}]}], "message 1: role must be a string, found a number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence_with_the_line(tmp_path, rows, message):
    with pytest.raises(LorateError, match=message) as info:
        read(lines(tmp_path / "d.jsonl", *rows))
    assert "\n" not in str(info.value)


PAIRS = [{"prompt": "a", "completion": "x"}, {"prompt": "b, c", "completion": "y\nz"}]


def parquet(path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), path)


def zstd(path):
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write("\n".join(map(json.dumps, PAIRS)).encode())


FILES = {
    "pandas.csv": lambda path: pandas.DataFrame(PAIRS).to_csv(path),
    "columns.json": lambda path: pandas.DataFrame(PAIRS).to_json(path),
    "records.json": lambda path: pandas.DataFrame(PAIRS).to_json(path, orient="records"),
    "lines.json": lambda path: pandas.DataFrame(PAIRS).to_json(path, orient="records", lines=True),
    "pretty.json": lambda path: path.write_text("\n".join(json.dumps(pair, indent=1) for pair in PAIRS)),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "license": "", "data": PAIRS})),
    "lists.json": lambda path: path.write_text(json.dumps({k: [pair[k] for pair in PAIRS] for k in PAIRS[0]})),
    "excel.csv": lambda path: path.write_bytes('\ufeffPrompt;Completion;\r\na;x;\r\n"b, c";"y\nz";\r\n'.encode()),
    "sep.csv": lambda path: path.write_text('sep=;\nprompt;completion\na;x\nb, c;"y\nz"\n'),
    "utf16.csv": lambda path: path.write_bytes('prompt\tcompletion\r\na\tx\r\nb, c\t"y\nz"\r\n'.encode("utf-16")),
    "tabs.tsv": lambda path: path.write_text('prompt\tcompletion\na\tx\nb, c\t"y\nz"\n'),
    "packed.jsonl.gz": lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, PAIRS)).encode())),
    "packed.jsonl.zst": zstd,
    "hub.parquet": parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    FILES[name](tmp_path / name)
    assert read(tmp_path / name)[0] == PAIRS


def test_a_field_of_any_size_and_the_limit_is_put_back(tmp_path):
    import csv

    before = csv.field_size_limit()
    (tmp_path / "d.csv").write_text("prompt,completion\n" + "a" * 200_000 + ",b\nc,d\n")
    assert len(read(tmp_path / "d.csv")[0][0]["prompt"]) == 200_000 and csv.field_size_limit() == before


def test_folders(tmp_path):
    folder = tmp_path / "data"
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        file = folder / "default" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines(file, {"question": name, "answer": "x"}, {"question": f"{name} b", "answer": "x"})
    (folder / "README.md").write_text("# Card")
    rows, data = read(folder)
    assert len(rows) == 4 and all("train" in row["messages"][0]["content"] for row in rows)
    assert data.notes == [
        f"{folder}: not read: default/test-00000-of-00001.jsonl (of 3 files; --eval-data takes held-out ones)."
    ]
    for file in folder.rglob("train*"):
        file.unlink()
    assert len(read(folder)[0]) == 2  # nothing says that this is not for training
    (folder / "broken.csv").write_text('question,answer\na,"b\n')
    with pytest.raises(LorateError, match=r"broken\.csv, line 2: not valid CSV"):
        read(folder)


def test_saved_data_sets_and_their_splits(tmp_path, capsys):
    rows = datasets.Dataset.from_list([{"question": w, "answer": "x"} for w in "abc"])
    datasets.disable_progress_bars()
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(first=rows, other=rows.select([0, 1])).save_to_disk(str(tmp_path / "two"))
    datasets.enable_progress_bars()
    assert len(read(tmp_path / "one")[0]) == len(read(f"{tmp_path}/two:first")[0]) == 3
    assert len(read(f"{tmp_path}/two::other")[0]) == 2
    with pytest.raises(LorateError, match=r"no split named train; it has first, other: say which, as in .*two::first"):
        read(tmp_path / "two")
    with pytest.raises(LorateError, match="has no split named third; it has first, other"):
        read(f"{tmp_path}/two:third")
    file = lines(tmp_path / "d.jsonl", *PAIRS)
    with pytest.raises(LorateError, match="has no split 'train'"):
        read(f"{file}:train")


def test_hub_configurations_and_splits(monkeypatch):
    rows = datasets.Dataset.from_list([{"question": w, "answer": "x"} for w in "abc"])
    asked = []

    def load_dataset(path, **options):
        asked.append((path, options))
        if not options:
            raise ValueError(
                "Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']"
            )
        return datasets.DatasetDict(train=rows, test=rows.select([0, 1]))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(read("owner/name:main")[0]) == 3 and len(read("owner/name:main:test")[0]) == 2
    assert asked == [("owner/name", {"name": "main"})] * 2
    with pytest.raises(
        LorateError, match=r"several configurations \(main, socratic\): say which, as in owner/name:main\.$"
    ):
        read("owner/name")


def test_several_data_sets_with_weights(tmp_path):
    one = lines(tmp_path / "one.jsonl", *({"question": f"q{i}", "answer": "a"} for i in range(20)))
    two = lines(tmp_path / "two.jsonl", *({"conversations": [
        {"from": "human", "value": f"h{i}"}, {"from": "gpt", "value": "g"}]} for i in range(20)))  # fmt: skip
    data = load_data(f"{one},{two}=2", kind=LM, eval_fraction=0.25)
    asked = [row["messages"][0]["content"] for row in data.train]
    held_out = [row["messages"][0]["content"] for row in data.eval]
    assert len(held_out) == 10 and not set(asked) & set(held_out)
    for question in set(asked):
        assert asked.count(question) == (1 if question[0] == "q" else 2)
    half = load_data(f"{one}=0.5,{two}", kind=LM, eval_fraction=0.25)
    asked = [row["messages"][0]["content"][0] for row in half.train]
    whole = load_data(f"{one},{two}", kind=LM, eval_fraction=0.25)
    there = [row["messages"][0]["content"][0] for row in whole.train]
    assert asked.count("h") == there.count("h") and abs(asked.count("q") - there.count("q") / 2) <= 0.5
    assert len(half.places[0]) == len(half.train)
    strange = lines(tmp_path / "a,b=3.jsonl", *PAIRS)
    assert divided(str(strange)) == [(str(strange), 1.0)]
    with pytest.raises(LorateError, match="must be of one kind"):
        read(f"{one},{strange.rename(tmp_path / 'c.jsonl')}")
    with pytest.raises(LorateError, match="must be above 0"):
        read(f"{one},{two}=0")


def test_labels_that_differ_in_blanks_are_one_class_and_it_is_said(tmp_path):
    (tmp_path / "d.tsv").write_text('text\tlabel\n5" screen\tpos\nbad\tpos \nx\t neg\n')
    rows, data = read(tmp_path / "d.tsv", kind=SEQ)
    assert data.labels == ["neg", "pos"] and [row["label"] for row in rows] == [1, 1, 0]
    assert data.notes == [f"{tmp_path / 'd.tsv'}: 'pos' and 'pos ' differ in blanks only and are one class."]


def test_empty_records_are_left_out_and_counted(tmp_path):
    rows = [
        {"instruction": "q", "input": None, "output": "a"}, {"instruction": "r", "output": "b"},
        {"instruction": "s", "input": "x", "output": None}, {"instruction": "", "output": "y"},
        {"instruction": "t", "output": " "},
    ]  # fmt: skip
    found, data = read(lines(tmp_path / "d.jsonl", *rows))
    assert len(found) == 2
    assert data.notes == [f"3 empty records are left out (the first: {tmp_path / 'd.jsonl'}, line 3)."]


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.parquet", "d.csv"])
def test_some_records_of_many(tmp_path, name, monkeypatch):
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(300)]
    file = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif name.endswith("csv"):
        pandas.DataFrame(rows).to_csv(file)
    else:
        text = "\n".join(map(json.dumps, rows)).encode()
        file.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    asked = [row["messages"][0]["content"] for row in read(file, max_records=20)[0]]
    assert len(set(asked)) == 20 and asked == [row["messages"][0]["content"] for row in read(file, max_records=20)[0]]
    assert asked != [row["messages"][0]["content"] for row in read(file, max_records=20, seed=1)[0]]
    assert len(read(file, max_records=1000)[0]) == 300


def test_of_the_hub_no_more_is_read_than_wanted(monkeypatch):
    seen = []

    def endless():
        for number in range(10**9):
            seen.append(number)
            yield {"question": f"q{number}", "answer": "a"}

    def load_dataset(path, **options):
        assert options == {"streaming": True}
        return datasets.IterableDatasetDict(train=datasets.IterableDataset.from_generator(endless))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(read("owner/name", max_records=30)[0]) == 30 and len(seen) < 1000


def test_a_stream_that_breaks_off(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": ')
    with pytest.raises(LorateError, match=r"d\.jsonl cannot be read record by record: ") as info:
        read(tmp_path / "d.jsonl", max_records=5)
    assert "\n" not in str(info.value)
