"""Makes the models that come with the packages: ``python -m lorate_papers.workloads.make_quick_weights``."""

from typing import Any

from safetensors.torch import save

from lorate.calibration.plan import SMALL_MODEL
from lorate.extras import require
from lorate.runs import write_atomically
from lorate_papers.workloads import resnet, small_lm
from lorate_papers.workloads.cache import Weights


def main() -> None:
    """Pre-train every quick model and write it to where it is read from."""
    images = resnet.digit_images(resnet.QUICK.size, late=False)
    write_atomically(resnet.QUICK_FILE, save(resnet.trained(resnet.QUICK, images)))
    save_small_model(small_lm.trained(small_lm.QUICK))


def save_small_model(weights: Weights) -> None:
    """Write the small language model the way transformers loads it, with a tokenizer whose tokens are bytes."""
    model: Any = small_lm.build(small_lm.QUICK)
    model.load_state_dict(weights)
    model.save_pretrained(SMALL_MODEL)
    byte_tokenizer().save_pretrained(SMALL_MODEL)


def byte_tokenizer() -> Any:
    """Token n is the byte n; token 256 begins and ends a document."""
    tokenizers = require("tokenizers", extra="hf")
    letters = require("transformers.convert_slow_tokenizer", extra="hf").bytes_to_unicode()
    bytewise = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[])
    )
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    mark = "<document>"
    bytewise.add_special_tokens([mark])
    return require("transformers", extra="hf").PreTrainedTokenizerFast(
        tokenizer_object=bytewise, bos_token=mark, eos_token=mark, pad_token=mark
    )


if __name__ == "__main__":
    main()
