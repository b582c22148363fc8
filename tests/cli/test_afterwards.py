"""What comes after a run: evaluate, talk, merge, push."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from lorate.cli.app import run
from lorate.errors import LorateError
from lorate.training import TrainConfig, train
from lorate.training.merging import merge
from lorate.training.publishing import push
from lorate.training.tuned import load_tuned
from tiny_models import save_llama

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

TEMPLATE = (
    "{% for m in messages %}{{ 'a : ' if m['role'] == 'user' else 'b : ' }}{{ m['content'] }}"
    "{{ ' ' if m['role'] == 'user' else ' </s> ' }}{% endfor %}{{ 'b :' if add_generation_prompt }}"
)
TEXT = torch.tensor([[1, 5, 7, 8, 3, 4]])


def chats(file: Path) -> str:
    words = ["good", "bad", "film", "book", "c", "d", "e"]
    rows = [
        {"messages": [{"role": "user", "content": f"{x} {y}"}, {"role": "assistant", "content": f"{y} {x}"}]}
        for x in words
        for y in words
        if x != y
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on chats, whose model has tied embeddings."""
    folder = tmp_path_factory.mktemp("chats")
    model = save_llama(folder / "model", tie_word_embeddings=True, initializer_range=0.3)
    (folder / "template.jinja").write_text(TEMPLATE)
    config = TrainConfig(
        model=str(model), data=chats(folder / "chats.jsonl"), chat_template=str(folder / "template.jinja"), rank=2,
        steps=24, max_length=32, device="cpu", targets=["all-linear"], init="pissa",
    )  # fmt: skip
    train(config, folder / "run")
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=TEXT).logits
    return found


def test_eval_on_the_training_data_sees_what_training_saw(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((made / "run" / "run.json").read_text())["result"]
    records = [json.loads(line) for line in (made / "chats.jsonl").read_text().splitlines()]
    (made / "few.jsonl").write_text("\n".join(json.dumps(record) for record in records[:10]))
    assert run(["eval", str(made / "run"), "--data", str(made / "few.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "10 records" in said and "perplexity" in said and "token accuracy" in said and "standard error" in said
    base, tuned = (float(word) for word in said.split("loss")[1].split("│")[1:3])
    assert tuned < base and result["eval_after"] < result["eval_before"]


def test_a_talk_streams_remembers_and_shows_the_base(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("good film\n/both\nbad book\n/new\n\n/quit\nnot read\n"))
    assert run(["chat", str(made / "run"), "--tokens", "4"]) == 0
    said = capsys.readouterr()
    assert said.out.count("base:") == said.out.count("tuned:") == 1
    assert len([word for word in said.out.split() if word not in ("base:", "tuned:")]) >= 3
    assert "Each line is a message" in said.err


def test_the_merged_model_is_base_plus_adapter(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["merge", str(made / "run"), "--output", str(made / "merged")]) == 0
    assert "its outputs are those of base plus adapter within" in capsys.readouterr().out
    base = transformers.AutoModelForCausalLM.from_pretrained(made / "model", dtype=torch.float32)
    plain = logits(base)
    adapted = logits(peft.PeftModel.from_pretrained(base, made / "run" / "adapter"))
    merged = transformers.AutoModelForCausalLM.from_pretrained(made / "merged", dtype=torch.float32)
    assert (logits(merged) - adapted).abs().max() < 1e-3 < (adapted - plain).abs().max()
    assert transformers.AutoTokenizer.from_pretrained(made / "merged").chat_template == TEMPLATE
    assert run(["merge", str(made / "run"), "--output", str(made / "merged")]) == 2
    assert "is not empty; choose another --output" in capsys.readouterr().err


def test_a_merged_model_that_does_something_else_is_not_kept(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = load_tuned(made / "run")

    def forgets(**_: Any) -> Any:
        return tuned.model.unload()

    monkeypatch.setattr(tuned.model, "merge_and_unload", forgets)
    with pytest.raises(LorateError, match="differ from those of base plus adapter"):
        merge(tuned, made / "wrong")
    assert not (made / "wrong").exists() and not (made / ".wrong.new").exists()


def test_a_four_bit_base_is_merged_in_sixteen_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = save_llama(tmp_path / "model", hidden_size=64, intermediate_size=128, initializer_range=0.3)
    data = chats(tmp_path / "chats.jsonl")
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    config = TrainConfig(
        model=str(model), data=data, chat_template=str(tmp_path / "template.jinja"), rank=2, steps=8, max_length=32,
        device="cpu", quantize="4bit",
    )  # fmt: skip
    train(config, tmp_path / "run")
    assert run(["merge", str(tmp_path / "run")]) == 0
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "merged")
    assert merged.dtype == torch.bfloat16 and not hasattr(merged.config, "quantization_config")
    quantised = load_tuned(tmp_path / "run").model
    wanted, found = logits(quantised), logits(merged.float())
    assert (wanted - found).abs().max() < 0.1 * wanted.abs().max()


class Hub:
    """What `push` calls of huggingface_hub.HfApi."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.files = error, {}

    def create_repo(self, name: str, **options: Any) -> str:
        if self.error is not None:
            raise self.error
        return f"https://example.org/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_push_uploads_adapter_and_card(made: Path) -> None:
    hub = Hub()
    assert push(str(made / "run"), "me/chats", api=hub) == "https://example.org/me/chats"
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json"} <= hub.files.keys()
    card = hub.files["README.md"].decode()
    assert "rule `auto`" in card and "chats.jsonl" in card and "Held-out loss" in card and "Perplexity" in card
    assert "The adapter of " in card and " was kept, because it has the lowest held-out loss" in card


def test_push_without_a_network_is_one_sentence(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["push", str(made / "run"), "me/chats"]) == 2
    assert "There is no connection to the Hugging Face hub" in capsys.readouterr().err
    assert run(["push", str(made / "run"), "me//chats"]) == 2
    assert "is not a name for a repository" in capsys.readouterr().err


def test_the_readme_of_a_chat_run_shows_the_chat_template(made: Path) -> None:
    usage = (made / "run" / "README.md").read_text()
    assert "apply_chat_template" in usage and 'AutoTokenizer.from_pretrained("adapter")' in usage
    code = "\n".join(part.split("```")[0] for part in usage.split("```python\n")[1:3])
    place = Path.cwd()
    try:
        import os

        os.chdir(made / "run")
        exec(code, {})
    finally:
        os.chdir(place)


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["eval", "{}", "--data", "x.jsonl"], ["chat", "{}"], ["merge", "{}"], ["push", "{}", "me/x"]):
        assert run([word.format(tmp_path / "none") for word in words]) == 2
        assert "There is no run directory" in capsys.readouterr().err


def test_classifiers_are_evaluated_and_merged(
    bert_dir: Path, resnet_dir: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = tmp_path / "reviews.csv"
    rows = [f"{q} {t} {x},{q}" for q in ("good", "bad") for t in ("film", "book") for x in "abcde"]
    reviews.write_text("text,label\n" + "\n".join(rows))
    for model, data, task in (
        (bert_dir, reviews, "sequence-classification"),
        (resnet_dir, image_folder, "image-classification"),
    ):
        config = TrainConfig(
            model=str(model), data=str(data), task=task, rank=2, steps=4, device="cpu", max_length=32, eval_fraction=0.3
        )
        outcome = train(config, tmp_path / task)
        assert outcome.figures is not None and outcome.figures.keys() == {"accuracy", "macro_f1"}
        assert run(["eval", str(tmp_path / task), "--data", str(data)]) == 0
        assert "accuracy" in capsys.readouterr().out
        assert run(["merge", str(tmp_path / task)]) == 0
        assert run(["chat", str(tmp_path / task)]) == 2
        assert "only a language model can chat" in capsys.readouterr().err
    reviews.write_text("text,label\na film,ugly\na book,bad\nc film,ugly\n")
    assert run(["eval", str(tmp_path / "sequence-classification"), "--data", str(reviews)]) == 2
    assert "has the class 'ugly', and the run was trained on bad, good" in capsys.readouterr().err
