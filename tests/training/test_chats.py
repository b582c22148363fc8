"""Runs on chats: the assistant's tokens are what is learned, judged, counted and shown."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorate.cli.app import run as command
from lorate.errors import LorateError
from lorate.training import TrainConfig, dry_run, train
from lorate.training.talk import Talk
from lorate.training.trainers import assemble
from lorate.training.tuned import evaluate_run, load_tuned
from training_runs import Notices

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations

TEMPLATE = (
    "{% for m in messages %}{{ 'one ' if m.role == 'user' else 'two ' }}{{ m.content + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'two ' }}{% endif %}"
)
REWRITING = (
    "{% for m in messages %}{{ 'one ' if m.role == 'user' else 'two ' }}"
    "{{ 'three ' if m.role != 'user' and loop.last else '' }}{{ m.content + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'two ' }}{% endif %}"
)


def with_template(llama_dir: Path, folder: Path, template: str = TEMPLATE) -> str:
    model = Path(shutil.copytree(llama_dir, folder / "model"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(model)
    return str(model)


def write_chats(folder: Path) -> str:
    """Questions at random, answers that follow from them, so that there is more to learn in the answers."""
    letters = "abcde"
    chats = [
        [{"role": "user", "content": f"{x} {y}"}, {"role": "assistant", "content": f"good {x}"},
         {"role": "user", "content": y}, {"role": "assistant", "content": "bad film"}]
        for x in letters for y in letters
    ]  # fmt: skip
    file = folder / "chats.jsonl"
    file.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    return str(file)


@pytest.fixture
def chat_options(options: dict[str, Any], llama_dir: Path, tmp_path: Path) -> dict[str, Any]:
    own = {"model": with_template(llama_dir, tmp_path), "data": write_chats(tmp_path), "max_length": 64, "dropout": 0.0}
    return {**options, **own, "rule": "auto", "lr": 1.0, "steps": 60, "rank": 4}


def losses_of_answers(model: Any, tokenizer: Any, chats: list[Any]) -> tuple[float, float]:
    """Mean loss of the tokens of answers with their end, and of all others, without anything of lorate's."""
    inside, outside = [], []
    for chat in chats:
        ids, answers = [], []
        for message in chat["messages"]:
            given = message["role"] == "user"
            start = tokenizer("one" if given else "two", add_special_tokens=False)["input_ids"]
            said = tokenizer(message["content"] + " </s>", add_special_tokens=False)["input_ids"]
            ids += start + said
            answers += [False] * len(start) + [not given] * len(said)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        losses = F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        mask = torch.tensor(answers[1:])
        inside.append(losses[mask].mean())
        outside.append(losses[~mask].mean())
    return float(torch.stack(inside).mean()), float(torch.stack(outside).mean())


def test_the_loss_of_the_answers_falls_and_is_the_one_that_is_reported(
    chat_options: dict[str, Any], tmp_path: Path
) -> None:
    held_out = tmp_path / "held.jsonl"
    lines = Path(chat_options["data"]).read_text().splitlines()
    held_out.write_text("\n".join(lines[::5]))
    chats = [json.loads(line) for line in lines[::5]]
    outcome = train(TrainConfig(**chat_options, eval_data=str(held_out)), tmp_path / "run")
    base = AutoModelForCausalLM.from_pretrained(chat_options["model"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(chat_options["model"])
    before, others_before = losses_of_answers(base, tokenizer, chats)
    tuned = PeftModel.from_pretrained(base, outcome.run.adapter).eval()
    after, others_after = losses_of_answers(tuned, tokenizer, chats)
    assert outcome.change is not None
    assert outcome.change.before == pytest.approx(before, abs=1e-4)
    assert outcome.change.after == pytest.approx(after, abs=1e-4)
    # the tiny model's head is frozen and small, so that no loss can fall far
    assert after < before - 0.15 and after - before < others_after - others_before - 0.1


def test_what_became_of_the_records_is_in_plan_and_run(chat_options: dict[str, Any], tmp_path: Path) -> None:
    file = Path(chat_options["data"])
    silent = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}
    long = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b " * 200}]}
    empty = {"messages": [{"role": "user", "content": "a"}]}
    held_out = tmp_path / "held.jsonl"
    held_out.write_text(
        json.dumps({"messages": [{"role": "user", "content": "d"}, {"role": "assistant", "content": "d"}]})
    )
    file.write_text("\n".join([file.read_text(), *map(json.dumps, (silent, long, empty))]))
    options = {**chat_options, "eval_data": str(held_out), "steps": 1}
    listener = Notices()
    plan = dry_run(TrainConfig(**options), listener)
    assert plan.train_examples == 26 and plan.learned_tokens == 25 * 6 + 63 - 4 + 1
    assert plan.train_tokens == 25 * 16 + 64 - 25
    assert listener.notices == [
        f"1 empty record is left out ({file}, line 28).",
        "1 of 27 records are cut at 64 tokens; the longest has 205 (--max-length).",
        "1 of 27 records have no token to learn and are left out.",
    ]
    data = train(TrainConfig(**options), tmp_path / "run").run.read_run()["data"]
    assert "tokenizer.apply_chat_template(" in (tmp_path / "run" / "README.md").read_text()
    assert data["notes"] == listener.notices and data["format"] == "messages"
    assert data["counts"]["train"] == {
        "records": 27, "rows": 26, "tokens": plan.train_tokens, "learned": plan.learned_tokens, "cut": 1,
        "unlearned": 1, "merged": 0, "unlike": 0, "left": "", "longest": 205,
    }  # fmt: skip


def test_a_template_that_rewrites_answers(chat_options: dict[str, Any], llama_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    model = with_template(llama_dir, tmp_path / "other", REWRITING)
    outcome = train(TrainConfig(**{**chat_options, "model": model, "eval_fraction": 0.2}), tmp_path / "run")
    counts = outcome.run.read_run()["data"]["counts"]
    assert counts["train"]["rows"] == 2 * counts["train"]["records"] == 40
    assert (
        outcome.change is not None and outcome.change.examples == 5
    )  # records: the answers of one depend on each other
    assert outcome.change.after < outcome.change.before


def test_the_plan_shows_a_record_with_the_learned_part_marked(
    chat_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train --model {chat_options['model']} --data {chat_options['data']} --device cpu --dry-run"
    assert command(line.split()) == 0
    shown = capsys.readouterr().out
    assert shown.count("⟦good ") == 1 and "</s>⟧one" in shown and "⟦bad film </s>⟧" in shown and "answers" in shown
    assert command([*line.split(), "--train-on", "last"]) == 0
    assert "⟦good" not in (shown := capsys.readouterr().out) and "⟦bad film </s>⟧" in shown


def test_what_cannot_be_trained_on_leaves_no_directory(chat_options: dict[str, Any], tmp_path: Path) -> None:
    def message(**changes: Any) -> str:
        with pytest.raises(LorateError) as info:
            train(TrainConfig(**{**chat_options, **changes}), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(info.value)

    assert "--max-length 15 holds" in message(max_length=8)
    long = tmp_path / "long.jsonl"
    rows = [{"messages": [{"role": "user", "content": x}, {"role": "assistant", "content": "b " * 90}]} for x in "abc"]
    long.write_text("\n".join(map(json.dumps, rows)))
    assert "has positions for 64 tokens, and the data hold 95 in one sequence: --max-length 64 is the most" in message(
        data=str(long), max_length=100
    )
    assert "has no column prompt; its columns are: messages" in message(columns="question=prompt,answer=reply")


def test_the_old_word_for_answers_is_taken_with_a_warning(options: dict[str, Any]) -> None:
    with pytest.warns(FutureWarning, match="train_on completion is now called answers"):
        config = TrainConfig.from_mapping({**options, "train_on": "completion"}, source="old.yaml")
    assert config.train_on == "answers"


@pytest.mark.parametrize("template", [TEMPLATE, REWRITING])
def test_packing_keeps_what_is_learned(
    chat_options: dict[str, Any], llama_dir: Path, tmp_path: Path, template: str
) -> None:
    (tmp_path / "other").mkdir()
    options = {**chat_options, "model": with_template(llama_dir, tmp_path / "other", template), "eval_fraction": 0.2}
    prepared, trainer = assemble(TrainConfig(**options, packing=True))
    assert prepared.encoded is not None
    assert len(trainer.train_dataset) < len(prepared.encoded.train.rows) and trainer.args.max_steps == 60

    def learned(rows: Any) -> list[tuple[int, int]]:
        return sorted(
            (token, label) for row in rows for token, label in zip(row["input_ids"], row["labels"], strict=True)
        )

    assert learned(trainer.train_dataset) == learned(prepared.encoded.train.rows)
    packed = train(TrainConfig(**options, packing=True), tmp_path / "packed")
    assert packed.change is not None
    assert packed.change.examples == 5 and packed.change.after < packed.change.before


def test_the_same_judgement_after_the_run(chat_options: dict[str, Any], llama_dir: Path, tmp_path: Path) -> None:
    """``lorate eval`` on the held-out chats finds what the run found, also where a record has two sequences."""
    (tmp_path / "other").mkdir()
    model = with_template(llama_dir, tmp_path / "other", REWRITING)
    held_out = tmp_path / "held.jsonl"
    held_out.write_text("".join(Path(chat_options["data"]).read_text().splitlines(keepends=True)[::5]))
    options = {**chat_options, "model": model, "eval_data": str(held_out), "keep": "last"}
    outcome = train(TrainConfig(**options), tmp_path / "run")
    change, before, after = evaluate_run(load_tuned(outcome.run.path), str(held_out), Notices())
    assert outcome.change is not None and change.examples == outcome.change.examples == 5
    assert len(before.table) == 10 and outcome.figures is not None
    assert change.before == pytest.approx(outcome.change.before) and change.after == pytest.approx(outcome.change.after)
    assert {name: pair[1] for name, pair in outcome.figures.items()} == pytest.approx(after.figures())
    assert "Learned" in outcome.run.report.read_text() and "tokens (answers)" in outcome.run.report.read_text()


def test_a_conversation_and_a_completion_begin_as_in_training(llama_dir: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_dir)
    asked = []

    class Model:
        device = "cpu"

        class generation_config:
            eos_token_id = 2

        def generate(self, input_ids: Any, **_: Any) -> Any:
            asked.append(input_ids[0].tolist())
            return input_ids

    texts, chat = [1, 7, 8], [12, 7, 8, 2, 13]
    cases = [(None, None, texts), (TEMPLATE, None, chat)]  # a run that does not say what it was trained on
    cases += [(TEMPLATE, kind, chat) for kind in ("messages", "preference")]
    cases += [(TEMPLATE, kind, texts) for kind in ("text", "prompt-completion", "preference-text")]
    for template, kind, expected in cases:
        tokenizer.chat_template = template
        ends = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
        tokenizer.backend_tokenizer.post_processor = ends  # some tokenizers end everything
        base = SimpleNamespace(processor=tokenizer)
        tuned: Any = SimpleNamespace(config=TrainConfig(), base=base, model=Model(), run=None, kind=kind)
        talk = Talk(tuned)
        talk.answer("a b", lambda text: None)
        assert asked[-1] == expected
        assert talk.remembers == (expected == chat)
