"""``layers.jsonl``: the norms of each layer now and then, and how far its weight has moved since."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorate.jsonl import JsonlWriter
from lorate.monitor.other import OtherOptimizer
from lorate.monitor.record import layer_record
from lorate.monitor.window import Window
from lorate.optim import LoraOptimizer, Step
from lorate.optim.layout import Layer

LAYERS_EVERY = 10


def layers_are_due(step: Step) -> bool:
    """Whether a step's layers are written."""
    return step.number == 1 or step.number % LAYERS_EVERY == 0


class LayerRecords:
    """Writes the layers where it is their turn; a window of the weights' movement ends there, and the next one begins.

    Every process measures, since sharded adapters are gathered; the main one writes.

    Args:
        path: of the file; None writes nothing.
        resume_at: last step that a resumed run keeps. It has lost the adapters of its window's start, so that its first
            window begins with the first step it takes, as the record says.
    """

    def __init__(self, path: Path | None, resume_at: int | None = None) -> None:
        self._writer = None if path is None else JsonlWriter(path)
        if self._writer is not None and resume_at is not None:
            self._writer.truncate_after(resume_at)
        self._layers: list[Layer] = []
        self._step: Step | None = None
        self._window: Window | None = None

    def add(self, optimizer: LoraOptimizer | OtherOptimizer, step: Step) -> None:
        """After a step."""
        self._layers, self._step = optimizer.layers, step
        if not self._layers:
            return
        due = layers_are_due(step)
        if due:
            self._write(step, {} if self._window is None else self._window.record(optimizer))
        if due or self._window is None:
            self._window = Window(optimizer)

    def close(self) -> None:
        """Write the last step, and close the file also where a full disk takes no further line."""
        writer = self._writer
        try:
            if self._step is not None and not layers_are_due(self._step):
                self._write(self._step)
        finally:
            self._writer = None
            if writer is not None:
                writer.close()

    def _write(self, step: Step, moved: Mapping[str, Any] | None = None) -> None:
        if self._writer is None or not self._layers:
            return
        if self._writer.path.stat().st_size == 0:
            names, scaling = [layer.name for layer in self._layers], [layer.scaling for layer in self._layers]
            self._writer.write({"names": names, "scaling": scaling})
        self._writer.write(layer_record(step) | dict(moved or {}))
