"""What comes with a model: an adapter's files, and a chat template, which is a program."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fuzz_inputs import damaged, json_line, wrong_records
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from fuzz_box import Box, check_said, say
from lorate.errors import LorateError
from lorate.tasks.chat_template import ChatTemplate

SAVED = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "{llama}", "r": 2, "lora_alpha": 4,
    "lora_dropout": 0.0, "target_modules": ["q_proj"], "use_rslora": False, "use_dora": False, "bias": "none",
}  # fmt: skip
DATA = b"".join(json_line({"prompt": f"a {word}", "completion": "b"}) + b"\n" for word in ("one", "two", "three"))


@cache
def _weights(model: Path) -> bytes:
    base = AutoModelForCausalLM.from_pretrained(model)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with TemporaryDirectory() as place:  # not in the model's folder, which other tests copy
        adapted.save_pretrained(place)
        return (Path(place) / "adapter_model.safetensors").read_bytes()


@st.composite
def adapters(draw: Any) -> tuple[bytes, st.DataObject]:
    """``adapter_config.json``, more or less; and what damages the weights."""
    return draw(damaged(json_line(draw(wrong_records(SAVED))))), draw(st.data())


def check_adapter(case: tuple[bytes, st.DataObject], place: Path, model: Path) -> None:
    config, data = case
    box = Box(place / "box")
    name = model.as_posix().encode()
    box.put({
        "in/adapter_config.json": config.replace(b"{llama}", name),
        "in/adapter_model.safetensors": data.draw(damaged(_weights(model))),
        "in/data.jsonl": DATA,
    })  # fmt: skip
    with box.watched():
        check_said(say(["train", "--adapter", "in", "--data", "in/data.jsonl", "--steps", "1", "--dry-run"]))


CHATML = (
    "{% for message in messages %}{{ '<s>' + message['role'] + ':' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)
TRAPS = (
    "{{ 1 / 0 }}", "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "{{ messages }}",
    "{{ ''.__class__.__mro__ }}", "{% macro m() %}{{ m() }}{% endmacro %}"
    "{{ m() }}", "{{ raise_exception('no') }}", "{% include '/etc/passwd' %}", "{{ '%s' | format(1, 2) }}", "{{", "{%",
    "{{ 9 ** 9 ** 9 }}", "{{ x.y.z }}", "{% if", "{{ messages | tojson }}", "{{ strftime_now('%Y') }}", "\0", "{# ",
    "{% break %}", "{{ lipsum(5000) }}", "{{ none + 1 }}", "{% set messages = 3 %}",
)  # fmt: skip


@st.composite
def templates(draw: Any) -> str:
    """A template as others have it, damaged, or with a trap at some place."""
    text: str = draw(damaged(CHATML.encode())).decode("utf-8", "replace")
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.sampled_from(["", "", *TRAPS])) + text[place:]


def check_template(text: str, place: Path, model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = text
    turns = [{"role": "user", "content": "a one"}, {"role": "assistant", "content": "b two"}]
    try:
        for rendered in ChatTemplate(tokenizer).rendered(turns, None, "answers", "line 1"):
            assert all(0 <= start <= end <= len(rendered.text) for start, end in rendered.learned)
    except LorateError as error:
        assert len(str(error)) < 2000
