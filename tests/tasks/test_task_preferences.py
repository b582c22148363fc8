"""Preference records in the spellings that people have."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorate.errors import LorateError
from lorate.tasks import load_data

USER, GOOD, BAD = ({"role": role, "content": text} for role, text in
                   (("user", "q"), ("assistant", "good"), ("assistant", "bad")))  # fmt: skip
SYSTEM = {"role": "system", "content": "S"}
MORE = [USER, {"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
TURNS = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
GPT = ({"from": "gpt", "value": text} for text in ("good", "bad"))

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TRL": ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, TURNS),
    "TRL, implicit prompt": ({"chosen": [*MORE, GOOD], "rejected": [*MORE, BAD]}, {**TURNS, "prompt": MORE}),
    "TRL, texts": (
        {"prompt": "q", "chosen": " good", "rejected": " bad"},
        {"prompt": "q", "chosen": " good", "rejected": " bad"},
    ),
    "UltraFeedback binarized": (
        {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD], "score_chosen": 8.0},
        TURNS,
    ),
    "UltraFeedback, answers alone": ({"prompt": "q", "chosen": [GOOD], "rejected": [BAD]}, TURNS),
    "Anthropic hh-rlhf": (
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " good", "rejected": " bad"},
    ),
    "Dahoas full-hh-rlhf": (
        {"prompt": "q", "response": "good", "chosen": "good", "rejected": "bad"},
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
    ),
    "Intel orca_dpo_pairs": (
        {"system": "S", "question": "q", "chosen": "good", "rejected": "bad"},
        {**TURNS, "prompt": [SYSTEM, USER]},
    ),
    "distilabel orca": (
        {"system": "S", "input": "q", "chosen": "good", "rejected": "bad", "generations": ["good", "bad"]},
        {**TURNS, "prompt": [SYSTEM, USER]},
    ),
    "argilla dpo-mix": (
        {"dataset": "d", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD], "chosen_rating": 5},
        {**TURNS, "prompt": [SYSTEM, USER]},
    ),
    "truthy-dpo": ({"system": "", "prompt": "q", "chosen": "good", "rejected": "bad"}, TURNS),
    "LLaMA-Factory, sharegpt": (
        {"conversations": [{"from": "human", "value": "q"}], "chosen": next(GPT), "rejected": next(GPT)},
        TURNS,
    ),
    "LLaMA-Factory, alpaca": (
        {"instruction": "q", "input": "c", "chosen": "good", "rejected": "bad"},
        {**TURNS, "prompt": [{"role": "user", "content": "q\n\nc"}]},
    ),
    "axolotl, chat_template": ({"messages": [USER], "chosen": GOOD, "rejected": BAD}, TURNS),
    "axolotl, chatml.argilla": ({"instruction": "q", "chosen_response": "good", "rejected_response": "bad"}, TURNS),
    "OpenAI": (
        {"input": {"messages": [USER], "tools": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        TURNS,
    ),
    "Stack Exchange paired": ({"qid": 1, "question": "q", "response_j": "good", "response_k": "bad"}, TURNS),
}


def load(folder: Path, records: list[dict[str, Any]]) -> Any:
    file = folder / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    return load_data(str(file), kind="causal-lm", eval_fraction=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, tmp_path: Path) -> None:
    given, expected = SHAPES[shape]
    other = json.loads(json.dumps(given).replace("good", "fine"))
    data = load(tmp_path, [given, other])
    found = [{name: record[name] for name in expected} for record in [*data.train, *data.eval]]
    assert expected in found and not data.notes
    assert data.record_kind == ("preference" if isinstance(expected["prompt"], list) else "preference-text")


def test_faulty_records_are_counted_by_their_fault(tmp_path: Path) -> None:
    other = [{"role": "user", "content": "another"}]
    records = [
        *({"chosen": [USER, {**GOOD, "content": text}], "rejected": [USER, BAD]} for text in "abc"),
        {"chosen": [USER, GOOD], "rejected": [USER, GOOD]},
        {"chosen": [USER, GOOD], "rejected": None},
        {"chosen": [USER, GOOD], "rejected": [*other, BAD]},
        {"chosen": [GOOD], "rejected": [BAD]},
    ]
    data = load(tmp_path, records)
    assert len(data.train) + len(data.eval) == 3
    reasons = ("are the same", "rejected is missing", "no prompt that both answers share", "no prompt that both")
    assert all(any(reason in note for note in data.notes) for reason in reasons) and len(data.notes) == 3
    assert "2 records are left out" in data.notes[-1]


def test_a_file_without_a_sound_pair_says_why(tmp_path: Path) -> None:
    with pytest.raises(LorateError, match=r"no record to learn from.*chosen and rejected are the same"):
        load(tmp_path, [{"prompt": "q", "chosen": "a", "rejected": "a"}] * 2)
