"""Ctrl-C or a request to end in the middle of a run: finish the step, save a checkpoint, stop."""

import signal
from types import FrameType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorate import ranks
from lorate.runs.signals import ENDING, handling


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
