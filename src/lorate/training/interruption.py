"""Ctrl-C in the middle of a run: finish the step, save a checkpoint, stop."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks


class Interruption(TrainerCallback):
    """While active, the first Ctrl-C asks for a checkpoint and an end; the second one ends at once.

    Attributes:
        requested: whether the run ends because Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._is_pressed = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # nobody else may set handlers
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_pressed:
            raise KeyboardInterrupt
        self._is_pressed = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop at the end of the step in which Ctrl-C was pressed.

        It may reach several processes in different steps: all stop with the first one.
        """
        (pressed,) = ranks.total([int(self._is_pressed)], args.device)
        self.requested = pressed > 0
        if self.requested:
            control.should_save = True
            control.should_training_stop = True
