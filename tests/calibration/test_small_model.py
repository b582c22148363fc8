"""The small language model that comes with lorate: an ordinary model whose tokens are bytes."""

import pytest

from lorate.calibration.plan import QUICK, SMALL, SMALL_MODEL, own_config

transformers = pytest.importorskip("transformers")


@pytest.mark.filterwarnings("ignore")
def test_it_is_loaded_by_transformers_and_reads_bytes() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(SMALL_MODEL)
    text = "def é(x):\n  return '\x00'"
    assert tokenizer(text)["input_ids"] == list(text.encode()) and tokenizer.decode(list(text.encode())) == text
    model = transformers.AutoModelForCausalLM.from_pretrained(SMALL_MODEL)
    tokens = tokenizer("yes, i think that is what you want to do", return_tensors="pt")["input_ids"]
    assert float(model(tokens, labels=tokens).loss) < 2.5 < 5.5  # 5.5 is the loss of one that has read nothing


def test_its_name_stands_for_its_place() -> None:
    assert QUICK["own"]["model"] == SMALL
    assert own_config(QUICK["own"], 1, 1.0, 1, 0).model == str(SMALL_MODEL)
    assert own_config({"model": "mine"}, 1, 1.0, 1, 0).model == "mine"
