"""What is fuzzed: for each target a strategy, and a check that any input must pass."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow
import pyarrow.parquet
from fuzz_commands import command_lines, without_work
from fuzz_inputs import damaged, json_line, numbers, values, words, wrong_records, yaml_files
from fuzz_models import adapters, check_adapter, check_template, templates
from hypothesis import strategies as st
from PIL import Image

from fuzz_box import Box, check_said, say
from lorate.cli.train import options_from_file
from lorate.errors import LorateError
from lorate.jsonl import JsonlWriter, read_jsonl
from lorate.rules import RULES
from lorate.runs.digests import changed_records
from lorate.tasks import load_data, load_model
from lorate.tasks.formats import KINDS_OF_TASK
from lorate.tasks.images import image_record
from lorate.training import TrainConfig
from lorate.training.checkpoints import Checkpoint
from report.synthetic import run_info


@dataclass(frozen=True)
class Target:
    """One entrance for a user's input.

    Attributes:
        inputs: what is tried.
        check: takes an input, a folder and the directory of a tiny language model; raises if the input does harm.
        few: how many are tried by default.
    """

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Path, Path], None]
    few: int


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "rank": st.one_of(st.integers(0, 64), numbers),
    "alpha": st.one_of(numbers, st.just("law")),
    "lr": numbers,
    "smoothness": numbers,
    "dropout": numbers,
    "rule": st.sampled_from([*RULES, "best"]),
    "targets": st.one_of(words, st.lists(words, max_size=3)),
    "task": st.sampled_from(list(KINDS_OF_TASK)),
    "steps": numbers,
    "seed": numbers,
    "eval_fraction": numbers,
}
OPTIONS |= {field: values for field in TrainConfig.__dataclass_fields__ if field not in OPTIONS}
CONFIGS = st.dictionaries(st.one_of(st.sampled_from(list(OPTIONS)), words), values, max_size=5) | st.fixed_dictionaries(
    {}, optional=OPTIONS
)


def check_config(options: dict[str, Any], place: Path, _: Path) -> None:
    try:
        config = TrainConfig.from_mapping(options, source="a file")
    except LorateError as error:
        assert len(str(error)) < 2000, "a sentence, not the input once more"
        return
    assert TrainConfig.from_mapping(config.to_mapping(), source="a file") == config
    ready = config.with_steps(100, 4)  # the number of steps depends on the data
    assert config.scaling > 0 and ready.evaluation_interval >= 1 and ready.checkpoint_interval >= 1
    assert config.resolved_lr > 0


def check_config_file(content: bytes, place: Path, model: Path) -> None:
    file = place / "options.yaml"
    file.write_bytes(content)
    try:
        options = options_from_file(file)
    except LorateError as error:
        assert len(str(error)) < 2000, "a sentence, not the input once more"
        return
    check_config(options, place, model)


RECORDS: tuple[dict[str, Any], ...] = (
    {"prompt": "p", "completion": "c"},
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho", "weight": 0}], "tools": "[{}]"},
    {"instruction": "i", "input": "", "output": "o"},
    {"query": "q", "answers": [{"name": "f", "arguments": {}}], "tools": [{"name": "f"}]},
    {"text": "t"},
    {"text": "t", "label": "l"},
)
CSV = b'prompt,completion\n"a\nb",c\nd,"e""f"\n'


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """The records as Parquet; as text where its types cannot hold them."""
    file = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return json.dumps(rows).encode()
    return file.getvalue()


@st.composite
def data_files(draw: Any) -> tuple[str, dict[str, bytes], str]:
    """A path, the files there, and the task."""
    task = draw(st.sampled_from([*KINDS_OF_TASK, "causal-lm"]))
    suffix = draw(st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".jsonl.gz", ".parquet", "", "/"]))
    record = draw(st.sampled_from(RECORDS))
    rows = [draw(wrong_records({**record, "n": number})) for number in range(draw(st.integers(0, 3)))]
    lines = [json_line(row) for row in rows]
    text = draw(words).encode("utf-8", "surrogatepass")
    content = {
        ".jsonl": b"\n".join(lines),
        ".json": b"[" + b",\n".join(lines) + b"]",
        ".csv": CSV + text + b"," + text,
        ".parquet": parquet(rows),
    }.get(suffix, text + b"\n" + text)
    if suffix != "/":
        return f"data{suffix}", {f"data{suffix}": draw(damaged(content))}, task
    inside = st.sampled_from(
        ["a.txt", "b.TXT", "cats/c.txt", "cats/c.png", "dogs/d.png", "dogs/e.gif", ".hidden/f.txt"]
    )
    chosen = draw(st.lists(inside, max_size=4, unique=True))
    return "data", {f"data/{name}": draw(damaged(PICTURE if "/" in name else content)) for name in chosen}, task


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


PICTURE = _picture()


def check_data(case: tuple[str, dict[str, bytes], str], place: Path, _: Path) -> None:
    name, files, task = case
    box = Box(place / "box")
    box.put(files)
    with box.watched():
        try:
            data = load_data(name, kind=task)  # type: ignore[arg-type]
        except LorateError as error:
            assert str(error).strip() and len(str(error)) < 2000
            return
        assert len(data.train) >= 1 and len(data.eval) >= 1
        assert data.record_kind in KINDS_OF_TASK[task]  # type: ignore[index]


STEP = {
    "step": 1, "loss": 2.0, "eta": 0.1, "lr": 1.0, "stacked_norm": 9.0, "a_norm": 9.0, "b_norm": 1.0, "grad_norm": 3.0,
    "scaled_stacked_norm": 18.0, "scaled_grad_norm": 1.0, "weight_grad_norm": None, "sum_eta": 0.1, "samples": 4,
    "tokens": 512, "seconds": 4.1, "skipped": None, "alarms": [], "guarantee": 0.01, "average_slope": 0.5,
    "smoothness": 2.0,
}  # fmt: skip
ALARM = {"kind": "growing", "message": "It grows.", "remedy": "Stop it."}


@st.composite
def step_lines(draw: Any, most: int = 6) -> bytes:
    """``metrics.jsonl``, more or less."""
    lines = []
    for step in range(1, draw(st.integers(0, most)) + 1):
        record = {**STEP, "step": step, "loss": 2.0 / step, "sum_eta": 0.1 * step}
        if draw(st.integers(0, 4)) == 0:
            record["alarms"] = [draw(wrong_records(ALARM))]
        lines.append(json_line(draw(wrong_records(record))) + b"\n")
    return draw(damaged(b"".join(lines)))


def check_jsonl(case: tuple[bytes, int], place: Path, _: Path) -> None:
    content, step = case
    file = place / "metrics.jsonl"
    file.write_bytes(content)
    before = read_jsonl(file)
    with JsonlWriter(file) as writer:
        writer.write({"step": step, "new": True})
        writer.write({"step": step + 1, "new": True})
    after = read_jsonl(file)
    assert _same(after.records[:-2], before.records)
    assert [record["new"] for record in after.records[-2:]] == [True, True]
    with JsonlWriter(file) as writer:
        writer.truncate_after(step)
    kept = [record["step"] for record in read_jsonl(file).records if isinstance(record.get("step"), (int, float))]
    assert step in kept and all(one <= step for one in kept)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


LAYERS = {"step": 1, "a_norm": [1.0, 2.0], "b_norm": [1.0, 0.0], "grad_norm": [0.5, None], "window_start": 1,
          "signal": [1.0, 2.0], "drift": [0.1, 0.2]}  # fmt: skip
EVALUATION = {"step": 1, "eval_loss": 2.0, "eval_loss_se": 0.1}
SETTING = {
    "rule": "theory", "full_batch": True, "lower_bound": 0.0, "smoothness": 2.0, "per_layer": False,
    "finds_smoothness": False, "noise": "", "gradient_norm": "exact", "has_rest": False, "precision": 1e-7,
    "mixed": False,
}  # fmt: skip


@st.composite
def runs(draw: Any) -> dict[str, bytes]:
    """The files of a run directory, each right, wrong, damaged or missing."""

    def lines(*records: dict[str, Any]) -> bytes:
        return draw(damaged(b"".join(json_line(draw(wrong_records(record))) + b"\n" for record in records)))

    header = {"names": ["layers.0.q_proj", "layers.1.q_proj"], "scaling": [2.0, 2.0]}
    info = {**run_info(), "rule": {"name": "theory", "lr": 1.0, "formula": "f"}}
    content = {
        "metrics.jsonl": draw(step_lines()),
        "layers.jsonl": lines(header, LAYERS, {**LAYERS, "step": 12}),
        "eval.jsonl": lines(EVALUATION, {**EVALUATION, "step": 6}),
        "samples.json": draw(damaged(json_line([draw(wrong_records({"prompt": "p", "before": "b", "after": "a"}))]))),
        "setting.json": draw(damaged(json_line(draw(wrong_records(SETTING))))),
        "config.yaml": draw(yaml_files(OPTIONS)),
    }
    missing = draw(st.sets(st.sampled_from([*content, "none"]), max_size=2))
    content = {name: lines for name, lines in content.items() if name not in missing}
    content["run.json"] = json_line(draw(wrong_records(info)))
    if draw(st.integers(0, 4)) == 0:
        content["run.json"] = draw(damaged(content["run.json"]))
    return {f"out/run/{name}": lines for name, lines in content.items()}


def _check_command(*arguments: str) -> Callable[[dict[str, bytes], Path, Path], None]:
    def check(files: dict[str, bytes], place: Path, _: Path) -> None:
        box = Box(place / "box")
        box.put(files)
        with box.watched(), without_work():
            check_said(say(list(arguments)))

    return check


def check_command_line(case: tuple[list[str], dict[str, bytes]], place: Path, model: Path) -> None:
    arguments, files = case
    box = Box(place / "box")
    box.put(files)
    with box.watched(), without_work():
        check_said(say([word.replace("{llama}", str(model)) for word in arguments]))


def _pictures() -> list[bytes]:
    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        file = io.BytesIO()
        Image.new("RGB", (5, 4), (200, 30, 40)).save(file, kind)
        found.append(file.getvalue())
    return [*found, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"]


def check_image(content: bytes, place: Path, _: Path) -> None:
    """Pixels, or one sentence; no other program."""
    with patch("subprocess.Popen", side_effect=AssertionError("a program was started")):
        try:
            record = image_record(content, {"path": None, "bytes": content}, "a", "image 1")
        except LorateError as error:
            assert len(str(error)) < 300
        else:
            assert record.fields["label"] == "a"


MANIFEST_ENTRY = {"size": 3, "sha256": "x"}


@st.composite
def manifests(draw: Any) -> bytes:
    """``manifest.json``, more or less."""
    files = {name: draw(wrong_records(MANIFEST_ENTRY)) for name in ("optimizer.pt", "trainer_state.json")}
    right = {"format": 1, "files": draw(wrong_records(files)), "records": draw(wrong_records({"eval.jsonl": {}}))}
    return draw(damaged(json_line(draw(wrong_records(right)))))


def check_manifest(content: bytes, place: Path, _: Path) -> None:
    folder = place / "checkpoints" / "checkpoint-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    assert Checkpoint(folder, 1).fault()  # its files are not there
    assert all(isinstance(sentence, str) for sentence in changed_records(folder))


@st.composite
def model_configs(draw: Any) -> bytes:
    """``config.json`` of a tiny model, more or less."""
    small = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 8}
    right = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_attention_heads": 2, **small}
    right |= {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    return draw(damaged(json_line(draw(wrong_records(right)))))


def check_model_config(content: bytes, place: Path, model: Path) -> None:
    folder = place / "model"
    shutil.copytree(model, folder, dirs_exist_ok=True)
    (folder / "config.json").write_bytes(content)
    with suppress(LorateError):
        load_model(str(folder), "causal-lm")


TARGETS: dict[str, Target] = {
    "config mappings": Target(CONFIGS, check_config, 50),
    "config files": Target(yaml_files(OPTIONS), check_config_file, 20),
    "data readers": Target(data_files(), check_data, 15),
    "JSONL reader": Target(st.tuples(step_lines(), st.integers(0, 9)), check_jsonl, 20),
    "lorate report": Target(runs(), _check_command("report", "out/run"), 2),
    "lorate certify": Target(runs(), _check_command("certify", "out/run"), 8),
    "lorate train --resume": Target(runs(), _check_command("train", "--output", "out/run", "--resume"), 5),
    "images": Target(st.sampled_from(_pictures()).flatmap(damaged), check_image, 30),
    "manifests": Target(manifests(), check_manifest, 30),
    "model configs": Target(model_configs(), check_model_config, 8),
    "adapters": Target(adapters(), check_adapter, 4),
    "chat templates": Target(templates(), check_template, 8),
    "command lines": Target(command_lines(), check_command_line, 8),
}
