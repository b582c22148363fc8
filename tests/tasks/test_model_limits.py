"""Files of a model that ask for too much end in one sentence, and soon."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.tasks import load_model, model_limits
from lorate.tasks.chat_template import ChatTemplate
from lorate.tasks.model_limits import check_config, within

CHAT = [{"role": "user", "content": "a"}]


@pytest.fixture
def model(llama_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_dir, tmp_path / "model"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 10**6}, "1,000,000 layers"),
        ({"num_hidden_layers": 1e30}, "layers"),
        ({"attn_implementation": "kernels-community/x"}, "attention code from elsewhere .kernels-community/x."),
        ({"_attn_implementation": "a/b"}, "attention code from elsewhere"),
        ({"attn_implementation": "flash_attention_9"}, "could not be loaded"),
        ({"hidden_size": 10**9}, "could not be loaded|its config asks for"),
        ({"vocab_size": 2 * 10**9}, "its config asks for .* GiB, and there are"),
        ({"hidden_size": None}, "could not be loaded"),
        ({"num_hidden_layers": "many"}, "could not be loaded"),
        ({"vocab_size": 10**12}, "could not be loaded|its config asks for"),
    ],
)
def test_a_config_that_asks_for_too_much_is_one_sentence(change: dict[str, Any], words: str, model: Path) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    began = time.monotonic()
    with pytest.raises(LorateError, match=words):
        load_model(str(model), "causal-lm")
    assert time.monotonic() - began < 20


def test_parts_of_a_config_are_looked_at_too() -> None:
    check_config({"text_config": {"num_hidden_layers": 80}}, "m")
    with pytest.raises(LorateError, match="layers"):
        check_config({"text_config": {"num_hidden_layers": 10**5}}, "m")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "took more than 1 seconds"),
        ("{{ 'a' * 100000000 }}", "makes 100,000,000 characters|took more than 1"),
        ("{{ messages[9].content.x.y }}", "refuses the conversation"),
        ("{% if %}", "refuses the conversation"),
    ],
)
def test_a_template_without_end_is_ended(
    template: str, words: str, llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_model(str(llama_dir), "causal-lm").processor
    tokenizer.chat_template = template
    monkeypatch.setattr("lorate.tasks.chat_template.TEMPLATE_SECONDS", 1)
    with pytest.raises(LorateError, match=words):
        ChatTemplate(tokenizer).render(CHAT)


def test_time_is_kept_in_the_main_thread_alone_and_what_ends_in_time_goes_on() -> None:
    with within(1, "This"):
        pass
    time.sleep(1.1)
    ended: list[bool] = []

    def wait() -> None:
        with within(1, "That"):
            time.sleep(1.2)
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert ended and model_limits.MOST_LAYERS > 1000
