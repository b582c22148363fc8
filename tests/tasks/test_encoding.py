"""Records as tokens: which count, what is cut, what is left out, and that TRL makes the same of the same records."""

import json

import datasets
import numpy as np
import pytest
from chat_tokenizers import chat_tokenizer, template
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import SFTConfig, SFTTrainer

from lorate.errors import LorateError
from lorate.tasks import Encoder, load_data, load_model, marked
from lorate.tasks.chat_template import Rendered
from lorate.tasks.mask import blanks_meet, counted, counted_by_prefixes

CHATML = template("chatml")


def chat(*texts, **more):
    roles = ("user", "assistant")
    return {
        "messages": [{"role": roles[i % 2], "content": text, **(more if i % 2 else {})} for i, text in enumerate(texts)]
    }


def encoded(records, kind, tokenizer, train_on="answers", max_length=1000):
    fields = {key: [record.get(key) for record in records] for key in records[0]}
    features = None
    if kind == "messages":
        features = datasets.Features({"messages": datasets.List(datasets.Json())})
    part = datasets.Dataset.from_dict(fields, features=features)
    places = [f"d.jsonl, line {number}" for number in range(1, len(records) + 1)]
    return Encoder(tokenizer, kind, train_on, max_length).encode(part, places)


def learned(rows, tokenizer):
    return [
        tokenizer.decode([token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100])
        for row in rows
    ]


words = st.text(alphabet=" \nab:(){}é→中", max_size=12)


@pytest.mark.parametrize("sentencepiece", [False, True])
@given(before=words, answer=words.filter(str.strip), behind=words)  # an answer of blanks alone is empty
@settings(max_examples=150, deadline=None)
def test_offsets_agree_with_the_tokens_of_prefixes(sentencepiece, before, answer, behind):
    """Where no token crosses a border, the tokens of the text up to it are a prefix of the tokens of the whole."""
    tokenizer = TOKENIZERS[sentencepiece]
    text = before + answer + behind
    if blanks_meet(Rendered(text, [(len(before), len(before) + len(answer))])):
        return  # prefixes decide there
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = np.asarray(found["input_ids"])
    ends = [len(before), len(before) + len(answer)]
    prefixes = [tokenizer(text[:end], add_special_tokens=False)["input_ids"] for end in ends]
    if any(list(ids[: len(prefix)]) != prefix for prefix in prefixes):
        return
    mask = counted(np.asarray(found["offset_mapping"]).reshape(-1, 2), [(ends[0], ends[1])])
    expected, _ = counted_by_prefixes(tokenizer, ids, Rendered(text, [(ends[0], ends[1])]), False)
    assert mask[1:].tolist() == expected[1:].tolist()  # the first token is predicted from nothing


TOKENIZERS = {kind: chat_tokenizer(sentencepiece=kind) for kind in (False, True)}


def test_a_token_that_crosses_the_border_is_learned_and_counted():
    tokenizer = chat_tokenizer(eos="</s>")
    found = encoded(
        [{"prompt": "th", "completion": "e a"}, {"prompt": "the", "completion": " a"}],
        "prompt-completion",
        tokenizer,
    )
    assert learned(found.rows, tokenizer) == ["the a</s>", " a</s>"]
    assert found.counts.merged == 1 and "In 1 of 2 records the end of the prompt" in found.notes[0]


PAIRS = [
    {"prompt": f"{w} is", "completion": f" the answer {w}\n  return"} for w in ("yes", "no", "a", "x y z", "print")
]


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("kind", ["prompt-completion", "text", "messages"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_trl_makes_the_same_tokens_of_the_same_records(kind, adds_bos, llama_dir, tmp_path):
    tokenizer = chat_tokenizer(template("generation"), eos="<|im_end|>", adds_bos=adds_bos)
    tokenizer.pad_token = tokenizer.eos_token
    records = {
        "prompt-completion": PAIRS,
        "text": [{"text": pair["prompt"] + pair["completion"]} for pair in PAIRS],
        "messages": [chat(pair["prompt"], pair["completion"].strip(), "more", "yes") for pair in PAIRS],
    }[kind]
    arguments = SFTConfig(
        output_dir=str(tmp_path), max_length=1000, bf16=False, use_cpu=True, report_to="none",
        assistant_only_loss=kind == "messages",
    )  # fmt: skip
    model = load_model(str(llama_dir), "causal-lm").model
    model.resize_token_embeddings(len(tokenizer))
    trainer = SFTTrainer(
        model, arguments, train_dataset=datasets.Dataset.from_list(records), processing_class=tokenizer
    )
    ours = encoded(records, kind, tokenizer).rows
    assert len(ours) == len(records)
    for own, theirs in zip(ours, trainer.train_dataset, strict=True):
        size = len(own["input_ids"])  # what follows the last learned token is left away
        assert own["input_ids"] == theirs["input_ids"][:size] and own["labels"] == theirs["labels"][:size]
        assert set(theirs["labels"][size:]) <= {-100}


def test_prompts_have_the_tokens_that_training_begins_with():
    tokenizer = chat_tokenizer(CHATML, eos="<|im_end|>", adds_bos=True)
    for kind, record in (("prompt-completion", PAIRS[0]), ("messages", chat("q", "a", "q2", "a2"))):
        encoder = Encoder(tokenizer, kind, "answers", 1000)
        ((ids, labels),) = encoder.rows_of(record)
        prompt = encoder.prompt_ids(encoder.prompt(record))
        assert (
            ids[: len(prompt)] == prompt and labels[len(prompt) - 1] == -100 and labels[len(prompt)] == ids[len(prompt)]
        )
        assert (ids[0] == tokenizer.bos_token_id) == (kind == "prompt-completion")  # the template writes none


def test_a_tokenizer_that_ends_everything_itself():
    tokenizer = chat_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    )
    encoder = Encoder(tokenizer, "prompt-completion", "answers", 1000)
    ((ids, labels),) = encoder.rows_of(PAIRS[0])
    assert ids.count(tokenizer.eos_token_id) == 1 and labels[-1] == tokenizer.eos_token_id
    prompt = encoder.prompt_ids(PAIRS[0]["prompt"])
    assert prompt == ids[: len(prompt)]


def test_what_is_cut_left_out_or_unlearned_is_counted():
    tokenizer = chat_tokenizer(CHATML, eos="<|im_end|>")
    records = [
        chat("q", "yes"),
        chat("q", "yes " * 90),
        chat("q " * 90, "yes"),
        chat("q", "no", weight=0),
        *[chat("a", "b")] * 4,
    ]
    found = encoded(records, "messages", tokenizer, max_length=80)
    counts = found.counts
    assert (counts.records, counts.rows, counts.cut, counts.unlearned) == (8, 6, 1, 2)
    assert len(found.rows) == 6 and found.rows["record"] == [0, 1, 4, 5, 6, 7]
    assert counts.tokens == sum(map(len, found.rows["input_ids"])) and max(map(len, found.rows["input_ids"])) == 80
    assert counts.learned == sum(label != -100 for labels in found.rows["labels"] for label in labels)
    assert "1 of 8 records are cut at 80 tokens" in found.notes[0]
    assert found.notes[1] == "2 of 8 records have no token to learn and are left out."


def test_a_run_in_which_most_answers_are_cut_is_refused_with_the_length_that_would_do():
    tokenizer = chat_tokenizer(CHATML, eos="<|im_end|>")
    records = [chat("q " * 60, "yes"), chat("q " * 70, "yes"), chat("q", "yes")]
    with pytest.raises(
        LorateError, match=r"2 of 3 sequences lose tokens to learn at the maximum of 64 .* \d+ holds all of them"
    ) as info:
        encoded(records, "messages", tokenizer, max_length=64)
    enough = int(str(info.value).split(" holds all")[0].split()[-1])
    assert encoded(records, "messages", tokenizer, max_length=enough).counts.cut == 0
    assert encoded(records[1:2], "messages", tokenizer, max_length=enough).counts.cut == 0
    assert encoded(records, "messages", tokenizer, max_length=enough - 1).counts.cut == 1
    assert encoded(records, "messages", tokenizer, "all", max_length=64).counts.cut == 2  # the beginning is learned
    with pytest.raises(LorateError, match=r"--max-length 235 holds 95% of them, 1815 all"):
        lengthy = [chat("q " * n, "yes") for n in (*[110] * 40, 900)]
        encoded(lengthy, "messages", tokenizer, max_length=64)
    silent = [chat("q", "no", weight=0)] * 2
    with pytest.raises(LorateError, match="No record has a token to learn"):
        encoded(silent, "messages", tokenizer)


def test_a_long_text_is_divided_and_nothing_of_it_is_lost():
    tokenizer = chat_tokenizer()
    found = encoded([{"text": "a b c " * 30}, {"text": "a"}], "text", tokenizer, max_length=16)
    pieces = [row["input_ids"] for row in found.rows if row["record"] == 0]
    whole = [*tokenizer("a b c " * 30)["input_ids"], tokenizer.eos_token_id]
    assert [token for piece in pieces for token in piece] == whole
    assert max(map(len, pieces)) <= 16 and min(map(len, pieces)) > 8
    assert found.counts.cut == 0 and found.notes == [] and all(row["labels"] == row["input_ids"] for row in found.rows)


def test_a_template_without_an_end_is_told():
    found = encoded([chat("q", "a")], "messages", chat_tokenizer(template("plain")))
    assert "where to stop is not learned" in found.notes[0]


def test_a_record_with_its_learned_part_marked():
    tokenizer = chat_tokenizer(CHATML, eos="<|im_end|>")
    ((ids, labels),) = Encoder(tokenizer, "messages", "answers", 1000).rows_of(chat("q", "é中"))
    assert marked(ids, labels, tokenizer) == [
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", False), ("é中<|im_end|>", True)
    ]  # fmt: skip


def test_what_the_tokenizer_lacks():
    tokenizer = chat_tokenizer()
    with pytest.raises(LorateError, match="no chat template"):
        Encoder(tokenizer, "messages", "answers", 16)
    tokenizer.eos_token = None
    with pytest.raises(LorateError, match="no end token"):
        Encoder(tokenizer, "text", "answers", 16)


def test_a_template_that_refuses_names_the_line(tmp_path):
    rows = [chat("q", "a"), {"messages": [{"role": "system", "content": "s"}, *chat("q", "a2")["messages"]]}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_data(str(tmp_path / "d.jsonl"), kind="causal-lm")
    encoder = Encoder(chat_tokenizer(template("mistral_v1")), "messages", "answers", 100)
    with pytest.raises(LorateError, match=r"d\.jsonl, line 2: the chat template of .* refuses .*take turns"):
        for part, places in zip((data.train, data.eval), data.places, strict=True):
            encoder.encode(part, places)
