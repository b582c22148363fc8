"""The workloads that the regret benchmark alone has: chats whose answers count, and preferences."""

import math

import pytest
import torch
from _regret import answers, preferences
from _regret.settings import Setting, task_of
from torch.nn import functional as F

from lorate.errors import LorateError
from lorate.tasks.examples import IGNORED
from lorate_papers.workloads import small_lm

PROBLEM = {
    "prompt": 'import math\n\n\ndef half(x: int) -> int:\n    """ Half of\n    x. """',
    "completion": "\n    return x // 2\n",
}


@pytest.fixture(scope="module")
def pairs():
    return task_of(Setting("preferences", 2, 4, batch=4, steps=1, quick=True))


@pytest.fixture(scope="module")
def chats():
    return task_of(Setting("answers", 2, 4, batch=4, steps=1, quick=True))


def test_a_problem_gives_a_chat_about_what_it_does_and_one_about_how():
    first, second = answers.chats(PROBLEM)
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]
    assert first["messages"][0]["content"] == second["messages"][0]["content"] == "def half(x: int) -> int:"
    assert first["messages"][1]["content"] == "Half of x."
    assert second["messages"][1]["content"] == "    return x // 2"


def test_tokens_are_bytes_and_marks_and_the_answer_alone_counts():
    encoder = answers.Encoder(answers.tokenizer(), "messages", "answers", answers.LENGTH)
    found = answers.encoded([PROBLEM], encoder)
    ids, labels = found["input_ids"][1].tolist(), found["labels"][1].tolist()
    asked, told = b"def half(x: int) -> int:", b"    return x // 2"
    user, assistant, end = (answers.MARKS[mark] for mark in (answers.USER, answers.ASSISTANT, answers.END))
    whole = [small_lm.BEGIN, user, *asked, assistant, *told, end]
    assert ids[: len(whole)] == whole
    before, after = len(asked) + 3, answers.LENGTH - len(whole)
    assert labels == [IGNORED] * before + [*told, end] + [IGNORED] * after


def test_what_a_user_says_and_what_fills_up_does_not_change_the_loss(chats):
    model, batch = chats.template, {name: values[:2] for name, values in chats.held_out.items()}
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    mask = batch["labels"][:, 1:] != IGNORED
    by_hand = F.cross_entropy(logits[mask], batch["input_ids"][:, 1:][mask])
    assert chats.loss(model, batch).item() == pytest.approx(by_hand.item(), rel=1e-5)
    asked = batch["input_ids"].eq(answers.MARKS[answers.ASSISTANT]).cumsum(1) == 0
    assert (batch["labels"][asked] == IGNORED).all() and asked.any(1).all()


def test_the_loss_of_preferences_is_that_of_dpo(pairs):
    batch = {name: values[:3] for name, values in pairs.train.items()}
    model = pairs.model(None, 0)
    assert pairs.loss(model, batch).item() == pytest.approx(math.log(2), abs=1e-6)  # the base model is the reference
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)

    def likelihood(model, tokens):
        logs = model(input_ids=tokens).logits.log_softmax(-1)
        first = 1 + preferences.PROMPT
        return sum(logs[0, place - 1, tokens[0, place]].item() for place in range(first, tokens.shape[1]))

    losses = []
    for place in range(3):
        chosen, rejected = batch["chosen"][place : place + 1], batch["rejected"][place : place + 1]
        gain = likelihood(model, chosen) - likelihood(pairs.template, chosen)
        loss = likelihood(model, rejected) - likelihood(pairs.template, rejected)
        losses.append(math.log1p(math.exp(-0.1 * (gain - loss))))
    assert pairs.loss(model, batch).item() == pytest.approx(sum(losses) / 3, abs=1e-4)


def test_pairs_share_their_prompt_and_their_words_and_some_are_the_wrong_way_round(pairs):
    chosen, rejected = pairs.train["chosen"], pairs.train["rejected"]
    assert torch.equal(chosen[:, : 1 + preferences.PROMPT], rejected[:, : 1 + preferences.PROMPT])
    assert torch.equal(chosen.sort(1).values, rejected.sort(1).values)
    text = "".join(chr(number % 95 + 32) for number in range(20_000))
    found = preferences.pairs([text], 0)
    genuine = {
        tuple(map(ord, text[first : first + preferences.PROMPT + preferences.ANSWER])) for first in range(20_000)
    }
    wrong = [tuple(row[1:]) not in genuine for row in found["chosen"].tolist()]
    assert sum(wrong) / len(wrong) == pytest.approx(preferences.WRONG, abs=0.08)


def test_preferences_can_be_learned(pairs):
    model = pairs.model(Setting("preferences", 4, 8, batch=8, steps=1).adapter, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batches = pairs.batches(8, 0)
    for _ in range(30):
        optimizer.zero_grad()
        pairs.loss(model, next(batches)).backward()
        optimizer.step()
    assert pairs.validation_loss(model) < 0.66


@pytest.mark.parametrize("module", [answers, preferences], ids=["answers", "preferences"])
def test_own_data_or_model_is_refused(module):
    with pytest.raises(LorateError, match="own"):
        module.load(quick=True, data="a.jsonl")
    with pytest.raises(LorateError, match="own"):
        module.load(quick=True, model="a")
