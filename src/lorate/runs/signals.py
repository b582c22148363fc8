"""The ways a machine ends a process, beside Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""How a scheduler ends a job, and what a terminal that is closed sends; ``nohup`` makes a process ignore the second."""


class Ended(KeyboardInterrupt):
    """A request to end, which is handled like Ctrl-C.

    Args:
        number: of the signal.

    Attributes:
        code: what the process exits with.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def handling(handler: Handler, *signals: signal.Signals) -> Iterator[None]:
    """Inside, signals go to a handler; a request to end that the process ignores stays ignored.

    A shell makes what it starts in the background ignore Ctrl-C; sent to such a process by hand it is meant. Only the
    main thread may set handlers; in another one nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    deaf = [one for one in ENDING if signal.getsignal(one) == signal.SIG_IGN]
    heard = [one for one in signals if is_main and one not in deaf and signal.getsignal(one) is not None]
    before = {one: signal.signal(one, handler) for one in heard}
    try:
        yield
    finally:
        for one, previous in before.items():
            signal.signal(one, previous)


def ended_as_by_ctrl_c() -> Any:
    """Inside, a request to end is a KeyboardInterrupt, so that the run notes how it ended."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    return handling(interrupt, *ENDING)
