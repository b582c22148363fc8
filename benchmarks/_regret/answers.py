"""``answers``: the small language model learns to answer in chats about Python; what is asked does not count.

Every problem of HumanEval gives two chats: the line that defines a function is answered with its description in one and
with its code in the other. The labels are those of ``lorate train`` with ``train_on="answers"``.
"""

import random
import re
from typing import Any

import torch
from torch import Tensor

from lorate.extras import require
from lorate.tasks.embedded import human_eval_records
from lorate.tasks.encoding import Encoder
from lorate.tasks.examples import IGNORED
from lorate_papers.workloads import small_lm
from lorate_papers.workloads.tensor_workload import TensorWorkload
from lorate_papers.workloads.workload import refuse_others

LENGTH = 256
DESCRIPTION = 160
"""Characters of a description, at most."""
USER, ASSISTANT, END, UNKNOWN = "<|user|>", "<|assistant|>", "<|end|>", "<|unknown|>"
MARKS = {"<|begin|>": small_lm.BEGIN, USER: 0xF8, ASSISTANT: 0xF9, END: 0xFA, UNKNOWN: 0xFB}
"""Numbers that are no byte of UTF-8, so that the model has never seen them, as a base model has not its chat marks."""
TEMPLATE = (
    "<|begin|>{% for message in messages %}{% if message.role == 'user' %}<|user|>{{ message.content }}"
    "{% else %}<|assistant|>{{ message.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def load(*, quick: bool = False, data: str | None = None, model: str | None = None) -> TensorWorkload:
    """The workload.

    Args:
        quick: the small model, and fewer chats.
        data: must be left out.
        model: must be left out.

    Raises:
        LorateError: data or model was given.
    """
    refuse_others("answers", data, model)
    base = small_lm.load(quick=quick)
    problems = list(human_eval_records())
    random.Random(0).shuffle(problems)
    held_out, most = (8, 40) if quick else (32, len(problems))
    encoder = Encoder(tokenizer(), "messages", "answers", LENGTH)
    return TensorWorkload(
        name="answers",
        template=base.template,
        targets=base.targets,
        train=encoded(problems[held_out:most], encoder),
        held_out=encoded(problems[:held_out], encoder),
    )


def tokenizer() -> Any:
    """One token a character, numbered as in `small_lm`, with the marks of a chat."""
    tokenizers, transformers = require("tokenizers", extra="hf"), require("transformers", extra="hf")
    vocabulary = {chr(number): number for number in range(128)} | MARKS
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|begin|>",
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
    )
    made.chat_template = TEMPLATE
    return made


def chats(problem: dict[str, str]) -> list[dict[str, Any]]:
    """What a function does, and how."""
    asked = next(line for line in reversed(problem["prompt"].splitlines()) if line.startswith("def "))
    told = problem["prompt"].split(asked, 1)[1]
    description = re.sub(r"\s+", " ", told.replace('"""', "").replace("'''", "")).strip()[:DESCRIPTION]
    return [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for answer in (description, problem["completion"].strip("\n"))
        if answer.strip()
    ]


def encoded(problems: list[dict[str, str]], encoder: Encoder) -> dict[str, Tensor]:
    """The chats as tokens, filled up to equal length with what does not count."""
    rows = [row for problem in problems for chat in chats(problem) for row in encoder.rows_of(chat)]
    ids = torch.full((len(rows), LENGTH), small_lm.BEGIN)
    labels = torch.full_like(ids, IGNORED)
    for place, (tokens, own) in enumerate(rows):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        labels[place, : len(own)] = torch.tensor(own)
    return {"input_ids": ids, "labels": labels}
