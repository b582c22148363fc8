"""What the files of a model may ask for: layers that can be built, no code from elsewhere, templates that end."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

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
