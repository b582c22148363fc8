"""A run's adapter merged into its base: a model of its own, checked before it is kept."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorate.errors import LorateError
from lorate.extras import require
from lorate.tasks import positions, quiet
from lorate.tasks.model_source import AUTO_CLASS
from lorate.tasks.models import NO_CODE
from lorate.training.tuned import Tuned

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""How far the outputs of the merged model may be from those of base plus adapter, as a part of the largest output."""


def merge(tuned: Tuned, output: Path) -> float:
    """Write the merged model, load it again, and compare its outputs with those of base plus adapter.

    Args:
        tuned: the run; of a quantised base with ``dequantize``.
        output: a directory that is not there, or empty.

    Returns:
        The largest difference of an output, as a part of the largest output.

    Raises:
        LorateError: the directory is taken, or the merged model does something else, and is not kept.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise LorateError(f"{output} is not empty; choose another --output.")
    fresh = output.parent / f".{output.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    wanted = _outputs(tuned, tuned.model)
    try:
        with quiet():
            merged = tuned.model.merge_and_unload(safe_merge=True)
            merged.save_pretrained(fresh)
            tuned.base.processor.save_pretrained(fresh)
            auto = getattr(require("transformers", extra="hf"), AUTO_CLASS[tuned.config.task])
            again = auto.from_pretrained(fresh, dtype=getattr(torch, tuned.config.dtype), **NO_CODE)
        found = _outputs(tuned, again.to(wanted.device).eval())
        difference = float((found - wanted).abs().max() / wanted.abs().max())
        if not difference <= TOLERANCE[tuned.config.dtype]:
            raise LorateError(
                f"The merged model's outputs differ from those of base plus adapter by {difference:.1%} of the "
                "largest, so it was not kept; use the adapter as it is, or merge in float32 with --dtype."
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            output.rmdir()
        fresh.rename(output)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return difference


def _outputs(tuned: Tuned, model: Any) -> Tensor:
    """What a model makes of an input that holds many tokens, or of noise."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if tuned.config.task == "image-classification":
            size = tuned.base.processor.size
            edge = next(iter(dict(size).values()))
            channels = getattr(tuned.base.model.config, "num_channels", 3)
            pixels = torch.randn(2, channels, edge, edge, generator=random)
            inputs = {"pixel_values": pixels.to(device, getattr(torch, tuned.config.dtype))}
        else:
            rows = min(len(tuned.base.processor), tuned.model.get_input_embeddings().num_embeddings)
            length = min(48, tuned.config.max_length, positions(tuned.base.model) or 48)
            inputs = {"input_ids": torch.randint(rows, (1, length), generator=random).to(device)}
        logits: Tensor = model(**inputs).logits
        return logits.float()
