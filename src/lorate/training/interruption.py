"""Ctrl-C in the middle of a run, and the ways a machine ends one: finish the step, save a checkpoint, stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks

Handler = Callable[[int, FrameType | None], Any]
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""How a scheduler ends a job, and what a terminal that is closed sends; ``nohup`` makes a process ignore the second."""


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
        raise KeyboardInterrupt

    return handling(interrupt, *ENDING)


class Interruption(TrainerCallback):
    """While active, the first Ctrl-C or request to end asks for a checkpoint and an end; the second one ends at once.

    Attributes:
        requested: whether the run ends because of it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._is_pressed = False
        self._handling = handling(self._on_signal, signal.SIGINT, *ENDING)

    def __enter__(self) -> Self:
        self._handling.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handling.__exit__(*error)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_pressed:
            raise KeyboardInterrupt
        self._is_pressed = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop at the end of the step in which the signal came.

        It may reach several processes in different steps: all stop with the first one.
        """
        (pressed,) = ranks.total([int(self._is_pressed)], args.device)
        self.requested = pressed > 0
        if self.requested:
            control.should_save = True
            control.should_training_stop = True
