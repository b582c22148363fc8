"""Whoever wants to know what a run does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorate.integrations.callback import LorateCallback
from lorate.monitor import Alarm, Monitor
from lorate.training.plan import Plan


class Listener:
    """Hears what a run does; override what you want to show."""

    def phase(self, text: str) -> None:
        """Something that takes a while begins."""

    def progress(self, done: int, total: int, unit: str = "", /) -> None:
        """So much of what takes a while is done.

        Args:
            done: how much.
            total: how much there is; 0 if that is unknown.
            unit: ``"MB"`` of a download, else nothing.
        """

    def plan(self, plan: Plan) -> None:
        """Data and model are loaded."""

    def example(self, parts: Sequence[tuple[str, bool]], title: str = "One record, the learned part marked:") -> None:
        """One record as the model gets it, in stretches that are learned (True) or given."""

    def notice(self, text: str) -> None:
        """Something about the run that a person should know, such as damage that was found."""

    def step(self, record: Mapping[str, Any], total: int) -> None:
        """A step was taken (or skipped)."""

    def alarm(self, alarm: Alarm) -> None:
        """The monitor raised an alarm."""

    def evaluation(self, step: int, loss: float, standard_error: float) -> None:
        """The held-out data was evaluated.

        Args:
            step: after which one.
            loss: mean over the examples.
            standard_error: of that mean; NaN for a single example.
        """


class ListeningCallback(LorateCallback):
    """Passes steps on to a listener, and alarms with their step to whoever handles them."""

    def __init__(self, monitor: Monitor, listener: Listener, total: int, alarms: Callable[[int, Alarm], None]) -> None:
        super().__init__(monitor)
        self._listener = listener
        self._total = total
        self._alarms = alarms

    def on_step_end(self, *args: Any, **options: Any) -> None:
        """Record the step and pass it on."""
        super().on_step_end(*args, **options)
        assert self.monitor.record is not None
        self._listener.step(self.monitor.record, self._total)

    def on_alarm(self, alarm: Alarm) -> None:
        """Pass it on."""
        assert self.monitor.record is not None
        self._alarms(self.monitor.record["step"], alarm)
