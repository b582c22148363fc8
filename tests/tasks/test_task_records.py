"""Every malformed file is one sentence with file and line; anything else is data."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lorate.errors import LorateError
from lorate.tasks import load_data
from lorate.tasks.records import collect

LM, SEQ = "causal-lm", "sequence-classification"
GOOD = '{"prompt": "a", "completion": "b"}'


def failure(path, kind=LM, **options):
    with pytest.raises(LorateError) as info:
        load_data(str(path), kind=kind, **options)
    text = str(info.value)
    assert "\n" not in text
    return text.replace(str(path.parent) + "/", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", f'{GOOD}\n{{"prompt": ', "d.jsonl, line 2: not valid JSON"),
        ("d.jsonl", f"{GOOD}\n\n{GOOD} {GOOD}", "d.jsonl, line 3: more than one JSON value"),
        ("d.jsonl", f"{GOOD}\n[1]", "d.jsonl, line 2: expected an object with keys and values, found a list"),
        ("d.jsonl", '{"promt": "a"}', "d.jsonl, line 1: expected the columns messages; conversations; prompt, "),
        ("d.jsonl", '{"promt": "a"}', "found promt; did you mean prompt?; or say which are which, as in --columns"),
        ("d.jsonl", "{}", "found none;"),
        ("d.jsonl", '{"prompt": 3, "completion": "b"}', "line 1: prompt must be a string, found a number"),
        ("d.jsonl", '{"prompt": "a", "completion": null}', "nothing to learn: its only record has no answer"),
        ("d.jsonl", '{"text": "\\ud800"}', "line 1: text holds half of a surrogate pair"),
        ("d.jsonl", f'{GOOD}\n{{"text": "a"}}', "line 2: a record with the columns text among records with"),
        ("d.jsonl", '{"prompt": "a", "answer": "b", "output": "c"}', "line 1: the columns prompt, output, answer fit"),
        ("d.jsonl", '{"messages": []}', "line 1: messages must be a list of at least one message, found an empty"),
        ("d.jsonl", '{"messages": [{"role": "user"}]}', "line 1, message 1: expected an object with the keys role"),
        ("d.jsonl", '{"messages": [{"role": "user", "content": 1}]}', "message 1: content must be a string"),
        ("d.jsonl", '{"messages": [{"role": "user", "content": "a"}]}', "its only record has no answer"),
        ("d.jsonl", "[" * 100_000, "line 1: not usable JSON"),
        ("d.jsonl", "1" * 5_000, "line 1: not usable JSON"),
        ("d.jsonl", "", "d.jsonl is empty"),
        ("d.jsonl", " \n\n", "d.jsonl is empty"),
        ("d.jsonl", GOOD, "d.jsonl holds 1 record:"),
        ("d.jsonl", f"{GOOD}\n{GOOD}", "d.jsonl holds 2 copies of 1 record:"),
        ("d.json", "[]", "d.json is empty"),
        ("d.json", "", "d.json is empty"),
        ("d.json", GOOD, "d.json holds 1 record:"),
        ("d.json", f"\n[\n{GOOD},\n\n{{\n\"prompt\": x}}]", "d.json, line 6: not valid JSON"),
        ("d.json", f"[\n{GOOD},\n{GOOD[:-1]}, \"x\": 1}},\n7]", "d.json, line 4: expected an object"),
        ("d.json", f"[{GOOD}\n{GOOD}]", "d.json, line 2: expected a comma or the end of the list"),
        ("d.json", f"[{GOOD},\n{GOOD}", "line 2: expected a comma or the end"),
        ("d.json", f"[{GOOD}]\n[1]", "more text after the end"),
        ("d.csv", "prompt,reply\na,b\n", "d.csv, line 2: expected the columns messages"),
        ("d.csv", 'prompt,completion\n"a\nb",c\nd\n', "d.csv, line 4: 1 values, but the header has 2 columns"),
        ("d.csv", 'prompt,completion\n"a\nb",\nd,\n', "none of its 2 records has an answer"),
        ("d.csv", 'prompt,completion\na,"b\n', "d.csv, line 2: not valid CSV"),
        ("d.csv", "text,text\na,b\n", "d.csv, line 1: two columns of one name"),
        ("d.csv", "text\n", "d.csv is empty"),
        ("d.txt", "\n \n", "d.txt is empty"),
        ("d.parquet", "x", "d.parquet cannot be read as Parquet"),
        ("d.xlsx", "x", "d.xlsx: unknown kind of data file; expected .jsonl, .ndjson, .json, .csv"),
        ("d.jsonl.gz", "x", "d.jsonl.gz cannot be read"),
    ],
)  # fmt: skip
def test_malformed_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    assert message in failure(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1.5}', "line 1: label must be a string or a whole number, found a number"),
        ('{"text": "a", "label": true}', "line 1: label must be a string or a whole number, found a truth value"),
        ('{"text": "a"}', "line 1: expected the columns text, label; found text;"),
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}', "has the one class 'x'"),
    ],
)
def test_malformed_labels(tmp_path, content, message):
    (tmp_path / "d.jsonl").write_text(content)
    assert message in failure(tmp_path / "d.jsonl", SEQ)


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.txt"])
def test_not_utf8(tmp_path, name):
    (tmp_path / name).write_bytes(b"text\nabc\n\xff\n")
    assert f"{name}, line 3: not UTF-8" in failure(tmp_path / name)


def test_plain_text_has_no_labels(tmp_path):
    (tmp_path / "d.txt").write_text("a\nb\n")
    assert "plain text has no labels" in failure(tmp_path / "d.txt", SEQ)
    assert "plain text has no labels" in failure(tmp_path, SEQ)


def test_unknown_label_in_the_evaluation_file(tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "e.csv").write_text("text,label\nc,x\nd,z\n")
    message = failure(tmp_path / "d.csv", SEQ, eval_spec=str(tmp_path / "e.csv"))
    assert "e.csv, line 3: the label 'z' does not occur in d.csv" in message


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "d.jsonl"
    path.write_text(GOOD)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert failure(path) == "d.jsonl cannot be read: Permission denied."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "text",
                    "label",
                    "prompt",
                    "completion",
                    "messages",
                    "role",
                    "content",
                    "x",
                    "conversations",
                    "from",
                    "value",
                    "instruction",
                    "input",
                    "output",
                    "answers",
                    "tools",
                    "tool_calls",
                    "function",
                    "name",
                    "weight",
                    "arguments",
                    "Text",
                    "system",
                    "data",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
files = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(json_values, max_size=4).map(lambda values: "\n".join(map(json.dumps, values)).encode())
    | st.lists(json_values, max_size=4).map(lambda values: json.dumps(values, indent=1).encode())
    | st.text(alphabet='text,label\n\r"ab\0', max_size=60).map(lambda rows: ("text,label\n" + rows).encode())
)


@given(
    content=files,
    suffix=st.sampled_from(["jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz"]),
    kind=st.sampled_from([LM, SEQ]),
)
@example(content=b'text,label\n"a\0",b\nc,d', suffix="csv", kind=SEQ)
@example(content=b'{"text": "a\\u0000"}\n{"text": "\\ud83d\\ude00"}', suffix="jsonl", kind=LM)
@example(content=b'{"messages": [{"role": "assistant", "content": [[]]}]}', suffix="jsonl", kind=LM)
@example(content=b"\0\r\0", suffix="csv", kind=LM)
@example(content=b'{"query": [], "answers": {"text": [1]}}', suffix="jsonl", kind=LM)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_data_or_one_sentence(tmp_path, content, suffix, kind):
    path = tmp_path / f"fuzz.{suffix}"
    path.write_bytes(content)
    try:
        data = load_data(str(path), kind=kind)
    except LorateError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert len(data.train) >= 1 and len(data.eval) >= 1
        assert not {repr(row) for row in data.train} & {repr(row) for row in data.eval}


def test_a_value_that_no_file_can_hold_is_called_what_it_is():
    with pytest.raises(LorateError, match="text must be a string, found a bytes"):
        collect("owner/name", [({"text": b"x"}, "owner/name, row 1")], LM, {})
    with pytest.raises(LorateError, match="text must be a string, found a number"):
        collect("owner/name", [({"text": 0.5}, "owner/name, row 1")], LM, {})
