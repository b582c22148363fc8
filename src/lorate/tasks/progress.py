"""Progress of long loops, of libraries and of lorate's own, for whoever shows it."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from lorate.extras import require


class Advance(Protocol):
    """Hears how much of something is done, and how much there is, in a unit that is worth showing, such as MB."""

    def __call__(self, done: int, total: int, unit: str = "", /) -> None:
        """So much is done; a total of 0 is an unknown one."""


T = TypeVar("T")
_BARS = {
    "datasets.arrow_dataset": "hf_tqdm",
    "transformers.core_model_loading": "tqdm",
    "transformers.modeling_gguf_pytorch_utils": "tqdm",
}
"""Where libraries make their progress bars: of data sets, and of weights."""
_DOWNLOADS = {"huggingface_hub.utils.tqdm": "tqdm", "huggingface_hub._snapshot_download": "hf_tqdm"}
"""Where the hub's client makes those of files, in bytes, and of how many files there are."""
MB = 10**6

_advance: ContextVar[Advance | None] = ContextVar("advance", default=None)


@contextmanager
def told(advance: Advance) -> Iterator[None]:
    """Inside, loops tell of their progress: those of `counted`, and those of the libraries instead of their bars."""
    tqdm: Any = require("tqdm", extra="hf").tqdm

    class Bar(tqdm):  # type: ignore[misc]  # what the libraries call, which draws nothing
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": False, "file": io.StringIO(), "mininterval": 0.5})

        def update(self, n: int = 1) -> Any:
            result = super().update(n)
            if self.total:
                self.advance()
            return result

        def advance(self) -> None:
            advance(int(self.n), int(self.total))

        def display(self, *_: Any, **__: Any) -> None:
            pass

    class Download(Bar):
        def __init__(self, *args: Any, name: str | None = None, **options: Any) -> None:
            super().__init__(*args, **options)
            # of two bars for the same bytes, of those that come and those that are written, the second
            self.is_shown = self.unit == "B" and not (name or "").endswith(".transfer")

        def advance(self) -> None:
            if self.is_shown:
                advance(int(self.n) // MB, int(self.total) // MB, "MB")

    bars = {**dict.fromkeys(_BARS.items(), Bar), **dict.fromkeys(_DOWNLOADS.items(), Download)}
    places = [(require(module, extra="hf"), name) for module, name in bars]
    before = [getattr(module, name) for module, name in places]
    token = _advance.set(advance)
    for (module, name), bar in zip(places, bars.values(), strict=True):
        setattr(module, name, bar)
    try:
        yield
    finally:
        _advance.reset(token)
        for (module, name), bar in zip(places, before, strict=True):
            setattr(module, name, bar)


def counted(values: Iterable[T], total: int) -> Iterator[T]:
    """The values themselves; whoever is `told` hears how many of ``total``, about, were taken; 0 if that is unknown."""
    advance = _advance.get()
    for done, value in enumerate(values, start=1):
        yield value
        if advance is not None and done % 100 == 0:
            advance(min(done, total) if total else done, total)
