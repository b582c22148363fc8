"""Hooks that keep nothing alive: their owner is held weakly, and a copy or a pickle of them does nothing."""

import weakref
from collections.abc import Callable
from typing import Any

from torch._compile import _disable_dynamo
from torch.utils.hooks import RemovableHandle


class Hook:
    """Calls a method of its owner as long as the owner lives.

    Modules are copied and pickled together with their hooks. A copy of this one does nothing, so that a pass of a
    copied model does not reach the optimizer of the original, and ``torch.save(model)`` needs nothing of lorate's.

    Args:
        method: a bound method, such as ``owner.note``.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = weakref.WeakMethod(method)

    @_disable_dynamo  # torch.compiler.disable, without its second of import
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Pass the call on."""
        method = self._method()
        return None if method is None else method(*args, **options)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _make_nothing, ()


def attach(register: Callable[..., RemovableHandle], method: Callable[..., Any], **options: Any) -> RemovableHandle:
    """Register a method as a hook that goes when its owner does.

    Args:
        register: for instance ``module.register_forward_hook``.
        method: bound to the owner.
        options: of ``register``.

    Returns:
        The handle that takes the hook off earlier.
    """
    handle = register(Hook(method), **options)
    weakref.finalize(method.__self__, handle.remove).atexit = False  # type: ignore[attr-defined]
    return handle


def nothing(*_: Any, **__: Any) -> None:
    """What a copied hook is."""


def _make_nothing() -> Callable[..., None]:
    return nothing
