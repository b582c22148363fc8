"""Progress of long loops, of libraries and of lorate's own, for whoever shows it."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from lorate.extras import require

Advance = Callable[[int, int], None]
"""Is told how much of something is done, and how much there is."""

T = TypeVar("T")
_BARS = {
    "datasets.arrow_dataset": "hf_tqdm",
    "transformers.core_model_loading": "tqdm",
    "transformers.modeling_gguf_pytorch_utils": "tqdm",
}
"""Where libraries make their progress bars: of data sets, and of weights."""

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
                advance(int(self.n), int(self.total))
            return result

        def display(self, *_: Any, **__: Any) -> None:
            pass

    places = [(require(module, extra="hf"), name) for module, name in _BARS.items()]
    before = [getattr(module, name) for module, name in places]
    token = _advance.set(advance)
    for module, name in places:
        setattr(module, name, Bar)
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
