"""Command lines made from what each command says of its own options."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from importlib import import_module
from typing import Any
from unittest.mock import patch

import typer
from fuzz_inputs import damaged, json_line, values, yaml_files
from hypothesis import strategies as st

from lorate.cli.app import app
from lorate.errors import LorateError
from lorate_papers.experiments import EXPERIMENTS

CHATS = [{"prompt": f"{x} :", "completion": f" {y} {x}"} for x in ("good", "bad") for y in "abcde"]
FILES = {
    "chats.jsonl": b"".join(json_line(chat) + b"\n" for chat in CHATS),
    "texts.txt": b"good film\nbad book\nfilm a b\n",
    "odd.jsonl": b'{"prompt": "a"',
    "odd.gguf": b"GGUF\0\0",
    "models/odd/config.json": b"{}",
    "models/torn/config.json": b'{"model_type": "llama", ',
    "photos/a/one.png": b"\x89PNG\r\n",
}
DATA = [*FILES, "chats.jsonl", "chats.jsonl", "missing.jsonl", "photos", "models", ".", "no/such", "no-such-data"]

words = st.one_of(
    st.sampled_from(["", " ", "-", "--", "0", "-1", "7", "1e400", "nan", "law", "a,b", "1,2", "[/]", "[bold]", "\\"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.binary(min_size=1, max_size=6).map(lambda raw: raw.replace(b"\0", b"x").decode("utf-8", "surrogateescape")),
)
"""What a shell can hand over: anything without NUL, bytes that are not UTF-8 included."""

names = words.map(lambda word: word.replace("/", "_").strip(".") or "x")
places = st.one_of(
    names.map(lambda name: f"out/{name}"),
    st.sampled_from(["out", "out/run", "out/run/deeper", "bystander", "bystander/notes.txt", "bystander/report.html"]),
)
"""Where a command may be told to write: into ``out``, or onto what is not its own."""

FITTING: dict[str, st.SearchStrategy[str]] = {
    "model": st.sampled_from(["{llama}", "{llama}", "models/odd", "models/torn", "odd.gguf", "no/such", "chats.jsonl"]),
    "data": st.sampled_from(DATA),
    "eval_data": st.sampled_from(DATA),
    "config": st.sampled_from(["options.yaml", "chats.jsonl", "bystander", "missing.yaml"]),
    "runs": st.sampled_from(["out/run", "out/run", "out", "bystander", "missing", "bystander/notes.txt"]),
    "run": st.sampled_from(["out/run", "out/run", "out", "bystander", "missing", "bystander/notes.txt"]),
    "name": st.sampled_from([*EXPERIMENTS, "nothing"]),
    "device": st.sampled_from(["cpu", "cuda:99", "meta", "toaster"]),
    "report_to": st.sampled_from(["none", "all", "nothing"]),
    "rule": st.sampled_from(["auto", "theory", "constant", "normalized", "backtracking", "best"]),
    "dtype": st.sampled_from(["float32", "bfloat16", "int8"]),
    "beta": st.sampled_from(["1", "0", "optimal", "nan", "inf"]),
    "over": st.sampled_from(["alpha", "finetune-lambda", "tokens"]),
    "values": st.sampled_from(["0.5,1", "1", "nan,1", "0,1", "inf,1"]),
    "ranks": st.sampled_from(["2,4", "2", "0,1", "a"]),
}
SMALL = ("tokens", "dimension", "seeds", "points", "processes", "jobs")
"""Numbers that a computer must be able to serve: a larger one only takes longer."""


def commands(group: Any = None, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All commands by the words that call them."""
    group = typer.main.get_command(app) if group is None else group
    found: dict[tuple[str, ...], Any] = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        inner = hasattr(command, "commands")
        found |= commands(command, (*before, name)) if inner else {(*before, name): command}
    return found


def _value(parameter: Any) -> st.SearchStrategy[str]:
    if parameter.name == "output":
        return places
    kind = parameter.type_descriptor.annotation
    small = st.integers(-1, 3).map(str)
    if parameter.name in SMALL:
        return small
    fitting = FITTING.get(parameter.name)
    if kind is int:
        fitting = st.one_of(small, st.sampled_from(["4294967296", "1" + "0" * 400]))
    elif kind is float:
        fitting = st.one_of(st.sampled_from(["0.1", "0.5", "2", "0", "-1", "nan", "inf", "1e-320", "1e308"]), small)
    elif issubclass(kind if isinstance(kind, type) else str, StrEnum):
        fitting = st.sampled_from(list(map(str, kind)))
    return words if fitting is None else st.one_of(fitting, fitting, fitting, words)


@st.composite
def command_lines(draw: Any) -> tuple[list[str], dict[str, bytes]]:
    """Words after ``lorate``, and the files that they may speak of."""
    called, command = draw(st.sampled_from(sorted(commands().items())))
    arguments = list(called)
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    chosen = (
        draw(st.lists(st.sampled_from(options), max_size=6, unique_by=lambda option: option.name)) if options else []
    )
    usual = [option for option in options if option.required or option.name in ("model", "data")]
    for option in {option.name: option for option in [*usual, *chosen]}.values():
        arguments.append(draw(st.sampled_from(option.opts)))
        if not option.is_flag:
            arguments.append(draw(_value(option)))
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments += draw(st.lists(_value(parameter), min_size=1, max_size=2 if parameter.nargs == -1 else 1))
    if draw(st.integers(0, 7)) == 0:
        arguments.insert(draw(st.integers(0, len(arguments))), draw(words))
    run = json.dumps({"lorate": "0", "config": draw(values), "status": "interrupted"}).encode()
    files = {"options.yaml": draw(yaml_files({"steps": st.integers(1, 3)})), "out/run/run.json": draw(damaged(run))}
    return arguments, FILES | files


class Started(LorateError):
    """Instead of hours of work."""


@contextmanager
def without_work() -> Iterator[None]:
    """Inside, whatever a command checks is checked; where it would train or start processes it ends."""
    from lorate.cli import train
    from lorate.training import session
    from lorate_papers.experiments import runner

    calibrate = import_module("lorate.calibration.calibrate")  # the package has a function of that name

    def start(*_: Any, **__: Any) -> None:
        raise Started("it would begin now.")

    with ExitStack() as stack:
        for owner, name in (
            (session._Session, "_carry_out"), (runner, "_reproduce"), (calibrate, "_find"), (train, "launch")
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, start))
        yield
