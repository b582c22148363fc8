"""Small tokenizers for the chat templates of the tests, with the special tokens that a template writes."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

OWN = Path(__file__).parent / "templates"
TEXT = ["the answer is: yes, no.\n\n  print(x)\n    return a + b\nUser and assistant; system <think>hm</think>"] * 3
SPECIAL = re.compile(
    r"<\|\w+\|>|<｜[\w▁]+｜>|<(?:start|end)_of_turn>|\[/?(?:INST|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]"
)


def template(name):
    """A template of our own, or an original that comes with TRL."""
    if (OWN / f"{name}.jinja").exists():
        return (OWN / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
    import trl

    file = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    if not file.exists():
        pytest.skip(f"this version of TRL has no {file.name}")
    return file.read_text(encoding="utf-8")


def chat_tokenizer(text=None, bos="<s>", eos="</s>", sentencepiece=False, adds_bos=False):
    """Byte-level like GPT's and Llama 3's, which leave blanks out of their offsets, or with ``▁`` like Llama 2's."""
    marks = sorted({bos, eos, *SPECIAL.findall(text or "")})
    if sentencepiece:
        backend = Tokenizer(models.BPE(unk_token=None, byte_fallback=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        alphabet = sorted(set("".join(TEXT)) | set("abcdefghijklmnopqrstuvwxyz0123456789 [](){}\"',:▁é→中\n"))
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=marks, show_progress=False)
    backend.train_from_iterator(TEXT, trainer)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, additional_special_tokens=marks
    )
    tokenizer.chat_template = text
    return tokenizer
