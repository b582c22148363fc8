"""Tensors that are made once on a user's machine and kept, with a checksum that is checked whenever they are read."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from lorate.errors import LorateError
from lorate.extras import require
from lorate.runs import write_atomically
from lorate.runs.strict_json import encode

Weights = dict[str, Tensor]


def cache_directory() -> Path:
    """Where lorate keeps what it made: ``$LORATE_CACHE``, else ``lorate`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("LORATE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lorate"


def cached_weights(name: str, recipe: Mapping[str, Any], make: Callable[[], Weights]) -> Weights:
    """Read weights, or other tensors, from the cache, or make them and keep them.

    The file is named after the recipe, so that a changed recipe never reads old weights. Of several processes that
    want the same weights, one makes them and the others wait.

    Args:
        name: of the file, before the fingerprint of the recipe.
        recipe: everything that the weights depend on: plain values.
        make: makes them.

    Raises:
        LorateError: the file is not the one that was written.
    """
    fingerprint = hashlib.sha256(encode(recipe).encode()).hexdigest()[:12]
    path = cache_directory() / f"{name}-{fingerprint}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum = path.with_suffix(".sha256")
    tensors = require("safetensors.torch", extra="hf")
    with _held(path.with_suffix(".lock")):
        if not checksum.is_file():  # written last: without it the weights are not whole
            content: bytes = tensors.save(make())
            write_atomically(path, content)
            write_atomically(checksum, hashlib.sha256(content).hexdigest() + "\n")
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != checksum.read_text(encoding="ascii", errors="replace").strip():
        raise LorateError(f"{path} is not the file that was written there; delete {checksum} to make it again.")
    weights: Weights = tensors.load(content)
    return weights


def committed_weights(path: Path) -> Weights:
    """Weights that come with the packages; ``make_quick_weights`` made them."""
    weights: Weights = require("safetensors.torch", extra="hf").load(path.read_bytes())
    return weights


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Wait for a file lock; on systems without ``fcntl`` (Windows) nothing is held."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
