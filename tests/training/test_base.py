"""Bases and adapters of every kind: what is trained is what is saved, and what cannot work is refused at once."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from lorate.errors import LorateError
from lorate.training import Listener, TrainConfig, dry_run, resume, train
from lorate.training.config import CHANGES_BASE
from lorate.training.trainers import assemble
from lorate.training.tuned import evaluate_run, load_tuned
from tiny_models import save_llama
from training_runs import PowerCut, adapter_bytes, metrics

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

TEXT = torch.tensor([[1, 5, 7, 8, 3, 4]])


@pytest.fixture
def tied(tmp_path: Path) -> str:
    return str(save_llama(tmp_path / "tied", tie_word_embeddings=True, initializer_range=0.3))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TEXT).logits


def reloaded(run: Path, model: str, **more: Any) -> Any:
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **more)
    return peft.PeftModel.from_pretrained(base, run / "adapter")


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        ({"targets": ["all-linear"]}, 14),
        ({"targets": ["all-linear"], "exclude": ["gate_proj"]}, 12),
        ({"targets": [r".*layers\.0\..*_proj"]}, 7),
        ({"targets": ["layers.1.mlp.up_proj"]}, 1),
        ({"rslora": True}, 4),
        ({"init": "gaussian"}, 4),
        ({"init": "pissa"}, 4),
        ({"init": "olora"}, 4),
        ({"init": "orthogonal"}, 4),
        ({"dora": True}, 4),
        ({"gradient_checkpointing": True}, 4),
        ({"autocast": "bfloat16"}, 4),
        ({"attention": "eager", "group_by_length": True}, 4),
        ({"modules_to_save": ["embed_tokens"]}, 4),
    ],
)
def test_what_was_trained_is_what_loads_without_lorate(
    change: dict[str, Any], layers: int, options: dict[str, Any], tied: str, tmp_path: Path
) -> None:
    config = TrainConfig(**{**options, "model": tied, "lr": None, "dropout": 0.0, "eval_every": 8, **change})
    assert dry_run(config).adapted_layers == layers
    outcome = train(config, tmp_path / "run")
    assert outcome.kept == 8 and outcome.change is not None and outcome.change.after != outcome.change.before
    model = reloaded(tmp_path / "run", tied)
    base = transformers.AutoModelForCausalLM.from_pretrained(tied, dtype=torch.float32)
    tuned = logits(model)
    assert (tuned - logits(base)).abs().max() > 1e-3
    merged = model.merge_and_unload()
    assert (logits(merged) - tuned).abs().max() < 1e-4
    held = json.loads((tmp_path / "run" / "before.json").read_text())
    assert held["scores"]


@pytest.mark.parametrize("change", [{"init": init} for init in CHANGES_BASE] + [{"init": "pissa", "rslora": True}])
def test_the_saved_adapter_has_the_loss_that_was_reported(
    change: dict[str, Any], options: dict[str, Any], tied: str, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{x} one :", "completion": f" two {x}"} for x in "abcde"]
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = {"model": tied, "eval_data": str(tmp_path / "held.jsonl"), "keep": "last", "dropout": 0.0, "lr": 0.05}
    outcome = train(TrainConfig(**{**options, **own, "rule": "constant", **change}), tmp_path / "run")
    change_again, *_ = evaluate_run(load_tuned(tmp_path / "run"), own["eval_data"], Listener())
    assert outcome.change is not None and abs(outcome.change.after - outcome.change.before) > 1e-3
    assert change_again.before == pytest.approx(outcome.change.before, abs=1e-5)
    assert change_again.after == pytest.approx(outcome.change.after, abs=1e-5)


def test_dora_does_not_start_from_a_part_of_the_base() -> None:
    with pytest.raises(LorateError, match="PEFT does not save it as it was trained"):
        TrainConfig(dora=True, init="olora")


@pytest.mark.parametrize("init", ["pissa", "default"])
def test_resuming_gives_the_same_adapter_whatever_its_start(
    init: str, options: dict[str, Any], tied: str, tmp_path: Path
) -> None:
    config = TrainConfig(**{**options, "model": tied, "lr": None, "init": init})
    train(config, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path / "broken", listener=PowerCut(5))
    resume(tmp_path / "broken")
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "whole")
    assert adapter_bytes(tmp_path / "broken") == adapter_bytes(tmp_path / "whole")


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantised_base_trains_on_a_cpu(bits: str, options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = str(save_llama(tmp_path / "wide", hidden_size=64, intermediate_size=128, initializer_range=0.3))
    config = TrainConfig(**{**options, "model": model, "lr": None, "quantize": bits, "steps": 12})
    prepared, _ = assemble(config)
    assert {p.dtype for p in prepared.model.parameters() if p.requires_grad} == {torch.float32}
    assert any("4bit" in type(m).__name__ or "8bit" in type(m).__name__ for m in prepared.model.modules())
    outcome = train(config, tmp_path / "run")
    assert outcome.change is not None and outcome.change.after < outcome.change.before


@pytest.mark.parametrize("width", [16, 64])  # 16: narrower than a block of the packed weights
def test_evaluating_a_four_bit_base_leaves_the_gradient_as_it_is(
    width: int, options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    model = str(save_llama(tmp_path / "wide", hidden_size=width, intermediate_size=128, initializer_range=0.3))
    given = {**options, "model": model, "lr": None, "quantize": "4bit", "dropout": 0.0}
    prepared, trainer = assemble(TrainConfig(**given))
    batch = next(iter(trainer.get_train_dataloader()))
    trained = [p for p in prepared.model.parameters() if p.requires_grad]

    def gradients() -> list[torch.Tensor]:
        prepared.model.train()
        return list(torch.autograd.grad(prepared.model(**batch).loss, trained))

    before = gradients()
    trainer.evaluate()
    for one, two in zip(before, gradients(), strict=True):
        torch.testing.assert_close(one, two)


def test_quantising_the_embedded_format(gguf_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("bitsandbytes")
    given = {**options, "model": str(gguf_path), "quantize": "4bit", "max_length": 32}  # its tokens are shorter
    assert dry_run(TrainConfig(**given)).adapted_layers == 4


def test_going_on_from_an_adapter(options: dict[str, Any], tied: str, tmp_path: Path) -> None:
    first = {**options, "model": tied, "lr": None, "rank": 3, "targets": ["q_proj", "up_proj"], "dropout": 0.0}
    one = train(TrainConfig(**first), tmp_path / "one")
    again = {key: value for key, value in options.items() if key not in ("model", "rank", "alpha", "lr", "dropout")}
    two = train(TrainConfig(**again, adapter=str(tmp_path / "one")), tmp_path / "two")
    assert one.change is not None and two.change is not None
    assert two.change.before == pytest.approx(one.change.after)
    config = two.run.read_config()
    assert (config["model"], config["rank"], config["alpha"]) == (tied, 3, 4.0)
    assert config["targets"] == ["q_proj", "up_proj"]
    with pytest.raises(LorateError, match=r"has rank 3, not 5; leave rank out"):
        dry_run(TrainConfig(**again, adapter=str(tmp_path / "one"), rank=5))
    with pytest.raises(LorateError, match="was made for another model"):
        wider = save_llama(tmp_path / "wider", hidden_size=32)
        dry_run(TrainConfig(**{**again, "model": str(wider)}, adapter=str(tmp_path / "one")))


@pytest.mark.parametrize("tie", [True, False])
def test_new_tokens_are_trained_and_saved(tie: bool, options: dict[str, Any], tmp_path: Path) -> None:
    tied = str(save_llama(tmp_path / "base", tie_word_embeddings=tie, initializer_range=0.3))
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text().replace(" one", " <new>"))
    new = {**options, "model": tied, "lr": None, "add_tokens": ["<new>"], "dropout": 0.0, "steps": 16}
    prepared, trainer = assemble(TrainConfig(**new))
    batch = next(iter(trainer.get_train_dataloader()))
    assert 16 in batch["input_ids"]
    with torch.no_grad():
        prepared.model.eval()
        read = trainer.compute_loss(prepared.model, dict(batch))
        assert read == pytest.approx(float(prepared.model(**batch).loss), rel=1e-4)
    outcome = train(TrainConfig(**new), tmp_path / "run")
    assert outcome.change is not None and outcome.change.after < outcome.change.before
    base = transformers.AutoModelForCausalLM.from_pretrained(tied, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "adapter")
    assert tokenizer("<new>")["input_ids"] == [16]
    base.resize_token_embeddings(len(tokenizer))
    model = peft.PeftModel.from_pretrained(base, tmp_path / "run" / "adapter")
    tuned = logits(model)
    assert (logits(model.merge_and_unload()) - tuned).abs().max() < 1e-4


def test_packed_records_do_not_see_each_other(options: dict[str, Any], tied: str) -> None:
    common = {**options, "model": tied, "dropout": 0.0, "batch_size": 2, "max_length": 32}
    prepared, plain = assemble(TrainConfig(**common))
    _, packed = assemble(TrainConfig(**common, packing=True))
    assert len(packed.train_dataset) < len(plain.train_dataset) / 2
    rows = {tuple(row["input_ids"]): row for row in plain.train_dataset}
    batch = next(iter(packed.get_train_dataloader()))
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
    with torch.no_grad():
        together = prepared.model.eval()(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        for start, end in itertools.pairwise(starts):
            record = batch["input_ids"][:, start:end]
            assert tuple(record[0].tolist()) in rows
            assert torch.allclose(together[start:end], prepared.model(input_ids=record).logits[0], atol=1e-5)


def test_packing_evaluates_every_example(options: dict[str, Any], tmp_path: Path) -> None:
    plain = train(TrainConfig(**{**options, "dropout": 0.0}), tmp_path / "plain")
    packed = train(TrainConfig(**{**options, "dropout": 0.0, "packing": True}), tmp_path / "packed")
    assert plain.change is not None and packed.change is not None
    assert packed.change.examples == plain.change.examples
    assert packed.change.before == pytest.approx(plain.change.before)
    assert packed.change.after < packed.change.before


def test_an_end_token_and_a_chat_template(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{% for m in messages %}{{ m['role'][0] }} : {{ m['content'] }} {% endfor %}")
    turns = [{"role": "user", "content": "good"}, {"role": "assistant", "content": "bad"}]
    chats = [{"messages": [{"role": "user", "content": w}, turns[1]]} for w in "abcde"]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    own = {**options, "data": str(tmp_path / "chats.jsonl"), "chat_template": str(tmp_path / "chat.jinja")}
    outcome = train(TrainConfig(**own, end_token="three"), tmp_path / "run")
    tokenizer = transformers.AutoTokenizer.from_pretrained(outcome.run.adapter)
    assert tokenizer.eos_token == "three" and tokenizer.chat_template == (tmp_path / "chat.jinja").read_text()


def test_a_rule_that_does_not_hold_for_an_adapter_is_refused_before_a_directory_is_made(
    options: dict[str, Any], tied: str, tmp_path: Path
) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(tied)
    kind = peft.LoraConfig(r=2, target_modules=["q_proj"], alora_invocation_tokens=[3], task_type="CAUSAL_LM")
    peft.get_peft_model(base, kind).save_pretrained(tmp_path / "activated")
    given = {name: options[name] for name in ("data", "steps", "device") if name in options}
    config = TrainConfig(**given, model=tied, adapter=str(tmp_path / "activated"), rule="adaptive", max_length=16)
    with pytest.raises(LorateError, match="ALoraLinearVariant layer, which is not trained as W = W0"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ["lm_head"]}, r"lm_head cannot have an adapter.*leave it out"),
        ({"targets": ["q_proj", "embed_tokens"]}, "shares its weight with the output layer"),
        ({"targets": [r".*embed.*"]}, "shares its weight with the output layer"),
        ({"targets": [r"q_pro[jk]"]}, r"no layer of .* matches 'q_pro\[jk\]'; try '.*q_pro\[jk\]'"),
        ({"targets": ["q_(proj"]}, "is not a regular expression"),
        ({"targets": ["q_proj"], "exclude": ["q_proj"]}, "PEFT cannot adapt these layers"),
        ({"modules_to_save": ["nope"]}, r"modules_to_save: no layer of .* is called 'nope'"),
        ({"attention": "nope"}, "attn_implementation|nope"),
        ({"end_token": "<stop>"}, "the tokenizer has no token '<stop>'"),
        ({"add_tokens": ["<new>", "good"]}, "'good' is a token of .* already; leave it out"),
        ({"chat_template": "no/such.jinja"}, "no/such.jinja cannot be read"),
        ({"adapter": "no/such"}, "no/such holds no adapter"),
        ({"autocast": "float16"}, "float16 on a CPU"),
    ],
)
def test_what_cannot_work_is_refused_before_a_directory_is_made(
    change: dict[str, Any], message: str, options: dict[str, Any], tied: str, tmp_path: Path
) -> None:
    with pytest.raises(LorateError, match=message):
        train(TrainConfig(**{**options, "model": tied, **change}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_quantising_needs_its_package(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=r"bitsandbytes is not installed; type: pip install 'lorate\[quantize\]'"):
        dry_run(TrainConfig(**{**options, "quantize": "4bit"}))
