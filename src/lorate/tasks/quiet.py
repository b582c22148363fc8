"""Silence the progress bars and notices of the Hugging Face libraries for a while."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lorate.extras import require


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off progress bars and everything below an error, and put the old settings back at the end.

    The streams themselves are left alone, so that a caller's own progress display stays visible.
    """
    notices = require("transformers.utils.logging", extra="hf")
    hub = require("huggingface_hub.utils.logging", extra="hf")
    bars = require("datasets.utils", extra="hf")
    gguf: Any = require("transformers.modeling_gguf_pytorch_utils", extra="hf")
    verbosity, hub_verbosity = notices.get_verbosity(), hub.get_verbosity()
    had_model_bars = notices.is_progress_bar_enabled()
    had_data_bars = not bars.are_progress_bars_disabled()
    gguf_bar = gguf.tqdm  # a plain tqdm, which no setting of transformers reaches
    notices.set_verbosity(logging.ERROR)
    hub.set_verbosity(logging.ERROR)
    notices.disable_progress_bar()
    bars.disable_progress_bars()
    gguf.tqdm = functools.partial(gguf_bar, disable=True)
    try:
        yield
    finally:
        notices.set_verbosity(verbosity)
        hub.set_verbosity(hub_verbosity)
        if had_model_bars:
            notices.enable_progress_bar()
        if had_data_bars:
            bars.enable_progress_bars()
        gguf.tqdm = gguf_bar
