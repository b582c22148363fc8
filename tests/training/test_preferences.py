"""Runs on preference records: TRL's DPOTrainer trains, and everything else is as in other runs."""

import json
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorate.cli.app import run as command
from lorate.errors import LorateError
from lorate.training import TrainConfig, dry_run, resume, train
from lorate.training.plan import make_plan
from lorate.training.talk import Talk
from lorate.training.trainers import assemble
from lorate.training.tuned import evaluate_run, load_tuned
from tiny_models import save_llama
from training_runs import Notices, PressCtrlC, adapter_bytes, evaluations, metrics

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own deprecations


def pairs() -> list[dict[str, Any]]:
    letters = "abcde"
    return [{"prompt": f"{x} {y}", "chosen": f" good {x}", "rejected": f" bad {y}"} for x in letters for y in letters]


@pytest.fixture
def preferences(llama_dir: Path, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs())))
    return {
        "model": str(llama_dir), "data": str(file), "rank": 4, "steps": 30, "max_length": 16, "device": "cpu",
        "eval_fraction": 0.2, "rule": "constant", "lr": 0.5, "samples": 1, "beta": 0.5,
    }  # fmt: skip


def margins(model: Any, base: Any, tokenizer: Any, beta: float) -> list[float]:
    """Rewards of chosen minus rejected, written out."""

    def logp(model: Any, prompt: str, answer: str) -> float:
        ids = torch.tensor([[*tokenizer(prompt + answer)["input_ids"], tokenizer.eos_token_id]])
        given = len(tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            scores = model(ids).logits[0, :-1].log_softmax(-1)
        return float(scores.gather(1, ids[0, 1:, None])[given - 1 :].sum())

    def reward(row: dict[str, Any], key: str) -> float:
        return beta * (logp(model, row["prompt"], row[key]) - logp(base, row["prompt"], row[key]))

    return [reward(row, "chosen") - reward(row, "rejected") for row in pairs()]


def test_a_run_learns_to_prefer(preferences: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**preferences), tmp_path / "run")
    assert outcome.change is not None and outcome.figures is not None
    assert outcome.change.before == pytest.approx(math.log(2), abs=1e-6) and outcome.change.after < 0.55
    assert outcome.figures["reward_accuracy"] == (0.5, 1.0) and outcome.figures["reward_margin"][1] > 0.3
    assert not (outcome.run.adapter / "ref").exists()
    assert [record["step"] for record in evaluations(outcome.run.path)][:2] == [0, 4]
    report = outcome.run.report.read_text()
    assert "reward accuracy" in report
    base = AutoModelForCausalLM.from_pretrained(preferences["model"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(preferences["model"])
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(preferences["model"]), outcome.run.adapter
    ).eval()
    expected = margins(tuned, base, tokenizer, 0.5)
    change, before, after = evaluate_run(load_tuned(outcome.run.path), preferences["data"], Notices())
    assert before.losses.tolist() == pytest.approx([math.log(2)] * 25, abs=1e-6)
    found = sorted(-math.log(math.expm1(loss)) for loss in after.losses.tolist())
    assert found == pytest.approx(sorted(expected), abs=1e-3)
    assert change.after == pytest.approx(sum(math.log1p(math.exp(-m)) for m in expected) / 25, abs=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_numbers(preferences: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig(**{**preferences, "steps": 8, "save_every": 2})
    whole = train(config, tmp_path / "whole").run.path
    train(config, tmp_path / "halves", listener=PressCtrlC(5))
    resume(tmp_path / "halves")
    assert adapter_bytes(whole) == adapter_bytes(tmp_path / "halves")
    assert evaluations(whole)[-1] == evaluations(tmp_path / "halves")[-1]


def test_preferences_after_another_run_are_judged_against_its_adapter(
    preferences: dict[str, Any], tmp_path: Path
) -> None:
    first = train(TrainConfig(**preferences), tmp_path / "first")
    more = {name: value for name, value in preferences.items() if name not in ("model", "rank")}
    second = train(TrainConfig(**{**more, "adapter": str(first.run.path), "steps": 4}), tmp_path / "second")
    assert second.change is not None and second.change.before == pytest.approx(math.log(2), abs=1e-6)
    assert second.change.after < second.change.before
    assert not (second.run.adapter / "ref").exists()


def test_auto_trains_on_preferences(preferences: dict[str, Any], tmp_path: Path) -> None:
    options = {name: value for name, value in preferences.items() if name not in ("rule", "lr")}
    outcome = train(TrainConfig(**options), tmp_path / "run")
    assert outcome.change is not None and outcome.change.after < outcome.change.before


def test_the_plan_shows_both_answers(preferences: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    line = f"train --model {preferences['model']} --data {preferences['data']} --device cpu --dry-run"
    assert command(line.split()) == 0
    shown = capsys.readouterr().out
    assert "the chosen answer marked" in shown and "the rejected answer marked" in shown
    assert "⟦good" in shown and "⟦bad" in shown and "(preferences)" in shown


def test_a_pair_is_one_sample_and_both_its_answers_are_read(preferences: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig(**{**preferences, "steps": 2, "batch_size": 3, "accumulate": 2})
    plan, last = dry_run(config), metrics(train(config, tmp_path / "run").run.path)[-1]
    assert plan.samples_per_step == 6 and plan.tokens_per_step == 6 * 2 * 16
    assert last["samples"] == 2 * 6 and last["tokens"] == 2 * 6 * (5 + 5)  # prompt 2, answer 2, end 1
    assert plan.train_tokens == 20 * 10 and plan.learned_tokens == 20 * 6

    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": row["prompt"]}) for row in pairs()))
    shared = {name: value for name, value in preferences.items() if name != "beta"} | {"batch_size": 3}
    one, two = (dry_run(TrainConfig(**{**shared, "data": str(data), "batch_size": size})).memory_bytes
                for data, size in ((texts, 6), (preferences["data"], 3)))  # fmt: skip
    assert one == two


ASKS = "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}: e{% endif %}"


def test_a_prompt_that_the_template_ends_otherwise_when_it_asks_is_counted(
    preferences: dict[str, Any], tmp_path: Path
) -> None:
    def turns(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rows = [
        {
            "prompt": turns("user", row["prompt"]),
            **{name: turns("assistant", row[name]) for name in ("chosen", "rejected")},
        }
        for row in pairs()
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "asks.jinja").write_text(ASKS)
    own = {"data": str(tmp_path / "chats.jsonl"), "chat_template": str(tmp_path / "asks.jinja")}
    prepared, trainer = assemble(TrainConfig(**preferences | own))
    said = "In 20 of 20 records the chat template ends the prompt with ': e' when it asks, and otherwise"
    assert prepared.notes[0].startswith(said)
    row, tokenizer = trainer.train_dataset[0], prepared.base.processor
    assert tokenizer.decode(row["prompt_ids"]) == row["prompt"][0]["content"]
    assert tokenizer.decode(row["chosen_ids"]) == row["chosen"][0]["content"].strip()
    (tmp_path / "asks.jinja").write_text(ASKS.replace(": e", ""))
    assert not assemble(TrainConfig(**preferences | own))[0].notes


@pytest.mark.parametrize("kind", ["text", "pairs"])
def test_the_plan_s_memory_is_about_what_a_step_takes(kind: str, preferences: dict[str, Any], tmp_path: Path) -> None:
    save_llama(tmp_path / "wide", vocab_size=8000, hidden_size=64, intermediate_size=128, num_hidden_layers=4)
    words = [{name: value * 6 for name, value in row.items()} for row in pairs()]
    rows = words if kind == "pairs" else [{"text": row["prompt"] + row["chosen"]} for row in words]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shared = {name: value for name, value in preferences.items() if name != "beta"}
    config = {"model": str(tmp_path / "wide"), "data": str(tmp_path / "long.jsonl"), "max_length": 24, "batch_size": 8}
    prepared, trainer = assemble(TrainConfig(**shared | config))
    batch = next(iter(trainer.get_train_dataloader()))
    prepared.model.train()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        trainer.compute_loss(prepared.model, batch).backward()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = list(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    weights = sum(parameter.numel() * 4 for parameter in prepared.model.parameters())
    assert 0.7 < make_plan(prepared).memory_bytes / (weights + max(taken)) < 1.4


def test_cut_and_faulty_records_are_counted(preferences: dict[str, Any], tmp_path: Path) -> None:
    extra = [
        {"prompt": "a " * 40, "chosen": "a", "rejected": "b"},
        {"prompt": "a", "chosen": "b " * 40, "rejected": " b"},
        {"prompt": "a", "chosen": "", "rejected": "b"},
        {"prompt": "a", "chosen": "b", "rejected": "b"},
    ]
    file = tmp_path / "more.jsonl"
    file.write_text("\n".join(map(json.dumps, [*pairs(), *extra])))
    held_out = tmp_path / "held.jsonl"
    held_out.write_text(json.dumps({"prompt": "c", "chosen": " c", "rejected": " d"}))
    listener = Notices()
    plan = dry_run(TrainConfig(**{**preferences, "data": str(file), "eval_data": str(held_out)}), listener)
    assert plan.train_examples == 26
    assert listener.notices == [
        f"{file}: 1 record is left out, because chosen is missing (the first: {file}, line 28).",
        f"{file}: 1 record is left out, because chosen and rejected are the same (the first: {file}, line 29).",
        "1 of 27 records are cut at 16 tokens; the longest has 41 (--max-length).",
        "1 of 27 records have no token to learn and are left out.",
        "In 1 of 27 records the end of the prompt and the beginning of the answer are one token, which the model will "
        "not see when it is asked: end prompts without a blank, and begin completions with it.",
    ]


@pytest.mark.parametrize(
    "changes",
    [{"train_on": "last"}, {"packing": True}, {"group_by_length": True}, {"dropout": 0.1}, {"init": "pissa"}],
)
def test_options_without_a_meaning_are_refused(
    preferences: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(LorateError, match=next(iter(changes))):
        train(TrainConfig(**{**preferences, **changes}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_beta_is_for_preferences(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LorateError, match="beta is for preference records"):
        train(TrainConfig(**{**options, "beta": 0.2}), tmp_path / "run")


def test_a_chat_prompts_as_the_run_was_trained(preferences: dict[str, Any], tmp_path: Path) -> None:
    outcome = train(TrainConfig(**{**preferences, "steps": 1}), tmp_path / "run")
    tuned = load_tuned(outcome.run.path)
    tuned.base.processor.chat_template = "{{ messages[0].content }}"  # the run had texts, so it is not used
    assert tuned.kind == "preference-text" and not Talk(tuned).remembers
