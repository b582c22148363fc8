"""What the files of a model may ask for: layers that can be built, no code from elsewhere, templates that end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from lorate.errors import LorateError

MOST_LAYERS = 4096
"""Of a kind; the deepest models have some hundreds."""

TEMPLATE_SECONDS = 10
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_blocks", "encoder_layers", "decoder_layers")


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Look at a ``config.json`` before anything is built from it.

    Args:
        config: what it says, parts of parts included.
        name: of the model, for the error.

    Raises:
        LorateError: it asks for more layers than any model has, or for attention code from the hub.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_config(value, name)
        elif key in _DEPTHS and isinstance(value, (int, float)) and value > MOST_LAYERS:
            raise LorateError(
                f"{name}: its config asks for {value:,} layers ({key}), at most {MOST_LAYERS:,} are built."
            )
        elif key.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
            raise LorateError(
                f"{name}: config.json asks for attention code from elsewhere ({value[:80]}), and lorate runs no code "
                f"from a model: take {key} out of it."
            )


def check_size(build: Callable[[], Any], name: str) -> None:
    """Count the bytes of a model before memory is taken for it: a system without room ends the process unasked.

    Args:
        build: makes the model; it is called where tensors have shapes only.
        name: of the model, for the error.

    Raises:
        LorateError: the model is larger than the memory of this machine.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with torch.device("meta"):
            model = build()
    except Exception:  # no such system call; or a config that the loader itself says more about
        return
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    if size > memory:
        raise LorateError(f"{name}: its config asks for {size / 2**30:,.0f} GiB, and there are {memory / 2**30:,.0f}.")


@contextmanager
def within(seconds: int, what: str) -> Iterator[None]:
    """Inside, Python that takes longer is ended; only in the main thread, and not on Windows.

    Raises:
        LorateError: it took longer.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise LorateError(f"{what} took more than {seconds} seconds and was ended.")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
