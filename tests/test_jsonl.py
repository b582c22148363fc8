import json
import math
from io import BytesIO

import numpy as np
import pytest

from lorate.jsonl import JsonlWriter, iterate_jsonl, read_jsonl


def test_each_record_is_a_line_on_disk_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"step": 1, "loss": 2.5})
        assert path.read_text() == '{"step": 1, "loss": 2.5}\n'
        writer.write({"step": 2, "loss": np.float32(0.5), "norms": np.array([1.0, math.inf])})
    assert read_jsonl(path).records[1] == {"step": 2, "loss": 0.5, "norms": [1.0, None]}


def test_non_finite_numbers_become_null_however_deep(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"loss": math.nan, "alarms": [{"value": -math.inf, "at": (1.0, math.nan)}]})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "loss": None,
        "alarms": [{"value": None, "at": [1.0, None]}],
    }


def test_opening_again_appends(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        with JsonlWriter(path) as writer:
            writer.write({"step": step})
    assert [record["step"] for record in read_jsonl(path).records] == [1, 2]


def test_an_incomplete_end_is_removed_before_appending(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    with JsonlWriter(path) as writer:
        writer.write({"step": 2})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_complete_end_without_line_break_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}')
    with JsonlWriter(path) as writer:
        writer.write({"step": 2})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_an_incomplete_line_longer_than_a_block_is_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"x": "' + b"y" * 200_000)
    JsonlWriter(path).close()
    assert path.read_text() == '{"step": 1}\n'


def test_after_truncation_each_step_stands_once(tmp_path):
    path = tmp_path / "layers.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"names": ["a"]})
        for step in range(1, 8):
            writer.write({"step": step})
        writer.truncate_after(4)
        for step in range(5, 8):
            writer.write({"step": step, "again": True})
    records = read_jsonl(path).records
    assert [record.get("step") for record in records] == [None, 1, 2, 3, 4, 5, 6, 7]
    assert [record["step"] for record in records if record.get("again")] == [5, 6, 7]
    assert [entry.name for entry in tmp_path.iterdir()] == ["layers.jsonl"]


def test_a_truncation_that_fails_leaves_the_file_and_the_writer(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"step": 1})
        writer.write({"step": 2})
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                writer.truncate_after(1)
        writer.write({"step": 3})
    assert [record["step"] for record in read_jsonl(path).records] == [1, 2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_truncated_last_line_is_dropped_and_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    content = read_jsonl(path)
    assert content.records == [{"step": 1}]
    assert content.problems == ["metrics.jsonl, line 2: the last line is incomplete and was left out."]


@pytest.mark.parametrize("damage", [b"\x00\x00\x00", b"\xff\xfe", b"{", b"[1, 2]", b"[" * 100_000])
def test_a_corrupt_line_is_reported_by_number(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n\n{"step": 3, "loss": NaN}\n')
    content = read_jsonl(path)
    assert content.records == [{"step": 1}, {"step": 3, "loss": None}]
    [problem] = content.problems
    assert "line 2" in problem


def test_many_corrupt_lines_are_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"?\n" * 1000)
    problems: list[str] = []
    assert list(iterate_jsonl(path, problems)) == []
    assert len(problems) == 21
    assert "980 more" in problems[-1]


def test_a_missing_file_has_no_records(tmp_path):
    assert read_jsonl(tmp_path / "none.jsonl").records == []


def test_what_json_does_not_know_is_refused_and_not_half_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer, pytest.raises(TypeError, match="object"):
        writer.write({"step": object()})
    assert path.read_bytes() == b""


def test_a_line_that_is_finished_while_it_is_read_is_left_for_the_next_time(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")

    class Growing(BytesIO):
        """A file that ends within a line, and has grown when one reads on."""

        def readline(self, size=-1):
            return next(lines, b"")

    lines = iter([b'{"step": 1}\n', b'{"st', b'ep": 2}\n', b'{"step": 3}\n'])

    monkeypatch.setattr(type(path), "open", lambda *_: Growing())
    content = read_jsonl(path)
    assert content.records == [{"step": 1}]
    assert content.problems == ["metrics.jsonl, line 2: the last line is incomplete and was left out."]
