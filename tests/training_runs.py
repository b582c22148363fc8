"""What tests of whole runs share: looking at what a run left, and stopping one half-way."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from lorate.jsonl import read_jsonl
from lorate.training import Listener


def ten_records(folder: Path) -> str:
    """The path of a data file with ten records."""
    file = folder / "data.jsonl"
    rows = [{"prompt": f"{x} {y} :", "completion": f" {y} {x} one"} for x in "abcde" for y in ("good", "bad")]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


OWN = {"seconds": 0, "slope": 0, "moved_sq": 0, "change_bound": 0, "edited": 0, "random": 0}
"""Times, and what a resumed run has not seen: the end of the move before the interruption, and what lay between."""


def metrics(run: Path) -> list[dict[str, Any]]:
    """The step records, apart from what is a run's own."""
    return [record | OWN for record in read_jsonl(run / "metrics.jsonl").records]


def evaluations(run: Path) -> list[dict[str, Any]]:
    return read_jsonl(run / "eval.jsonl").records


def adapter_bytes(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


class PressCtrlC(Listener):
    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, record: Any, total: int) -> None:
        if record["step"] == self._step:
            os.kill(os.getpid(), signal.SIGINT)


class PowerCut(Listener):
    """Ends the run after a step, without a checkpoint of it."""

    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, record: Any, total: int) -> None:
        if record["step"] == self._step:
            raise RuntimeError("power cut")


class Notices(Listener):
    """Keeps what the run says about itself."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)
