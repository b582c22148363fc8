"""A long run: does anything grow that should not?

A tiny language model trains for many steps, is interrupted twice as by Ctrl-C, and goes on. After every hundredth part
of the run it is evaluated and saved, and memory, hooks on the model, the size of the last checkpoint and the time are
noted: that of the processor, which other work on the machine changes less than that of the clock.
``memory_growth_kilobytes`` is what the process gained between a tenth and the end of a session, the largest of the
three; ``slowdown`` is the time of a step in the last tenth of all steps over that in the second tenth. Beside each note
a fixed piece of work of the same kind is timed; ``slowdown_of_fixed_work`` is its share in that, which a machine with
other things to do causes.

Run: python benchmarks/soak.py --steps 50000
"""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import psutil
import torch
from _record import record

from lorate.jsonl import iterate_jsonl
from lorate.training import Listener, TrainConfig, resume, session, train
from tiny_models import save_llama
from training_runs import ten_records

SESSIONS = (0.3, 0.7, 1.0)
"""Where each session ends, as a part of all steps."""


class Watch(Listener):
    """Notes what the process holds, and presses Ctrl-C at the end of a session."""

    def __init__(self, run: Path, trainers: list[Any], every: int, last: int) -> None:
        self._run, self._trainers, self._every, self._last = run, trainers, every, last
        self.notes: list[dict[str, float]] = []
        self.before = 0.0

    def step(self, record: Any, total: int) -> None:
        """Note, and perhaps press."""
        if record["step"] % self._every == 0:
            now = time.process_time()
            work = fixed_work()
            self.notes.append({"step": record["step"], "time": now - self.before, "work": work, **self._held()})
            self.before += work
            print(self.notes[-1], file=sys.stderr)
        if record["step"] == self._last < total:
            os.kill(os.getpid(), signal.SIGINT)

    def _held(self) -> dict[str, float]:
        checkpoints = sorted(self._run.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name[11:]))
        files = [path.stat().st_size for path in checkpoints[-1].iterdir()] if checkpoints else []
        memory = psutil.Process().memory_info().rss
        return {"memory": memory, "hooks": hooks(self._trainers[-1].model), "checkpoint": sum(files)}


def fixed_work() -> float:
    """Seconds of the processor that a fixed number of small operations takes, as a step has many."""
    start, x = time.process_time(), torch.ones(8, 8)
    for _ in range(20_000):
        x = (x @ x).tanh()
    return time.process_time() - start


def hooks(model: Any) -> int:
    """How many hooks a model and its parameters have."""
    of_modules = [module for module in model.modules() for module in (module._forward_hooks, module._forward_pre_hooks,
                                                                      module._backward_hooks)]  # fmt: skip
    of_parameters = [
        held
        for parameter in model.parameters()
        for held in (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None))
    ]
    return sum(len(held) for held in (*of_modules, *of_parameters) if held)


def soak(folder: Path, steps: int) -> tuple[dict[str, Any], list[list[dict[str, float]]]]:
    """Train in three sessions: figures, and the notes of each."""
    every = max(1, steps // 100)
    model = save_llama(folder / "model")
    config = TrainConfig(
        model=str(model), data=ten_records(folder), rank=2, alpha=4.0, steps=steps, max_length=16, samples=0,
        device="cpu", batch_size=2, save_every=every, eval_every=every,
    )  # fmt: skip
    trainers: list[Any] = []
    assemble = session.assemble

    def kept(*arguments: Any, **options: Any) -> Any:
        prepared, trainer = assemble(*arguments, **options)
        trainers[:] = [trainer]
        return prepared, trainer

    session.assemble = kept
    sessions = []
    for end in SESSIONS:
        watch = Watch(folder / "run", trainers, every, round(end * steps))
        if end == SESSIONS[0]:
            train(config, folder / "run", listener=watch)
        else:
            resume(folder / "run", listener=watch)
        sessions.append(watch.notes)
    session.assemble = assemble
    return figures(folder / "run", sessions, steps), sessions


def figures(run: Path, sessions: list[list[dict[str, float]]], steps: int) -> dict[str, Any]:
    """What grew, from the notes and from what the run left."""
    notes = [note for each in sessions for note in each]
    pace = [
        (later["time"] - earlier["time"]) / (later["step"] - earlier["step"])
        for each in sessions
        for earlier, later in pairwise(each)
    ]
    growth = max(each[-1]["memory"] - each[len(each) // 10 + 1]["memory"] for each in sessions)
    numbers = [line["step"] for line in iterate_jsonl(run / "metrics.jsonl")]
    info = json.loads((run / "run.json").read_text())
    sizes = [note["checkpoint"] for note in notes if note["checkpoint"]]
    return {
        "steps": len(numbers),
        "each_step_once": numbers == list(range(1, steps + 1)),
        "status": info["status"],
        "memory_megabytes": round(notes[-1]["memory"] / 1e6),
        "memory_growth_kilobytes": round(growth / 1e3),
        "memory_growth_bytes_per_step": round(growth / (0.4 * steps), 2),
        "hooks_first": notes[0]["hooks"],
        "hooks_last": notes[-1]["hooks"],
        "checkpoint_bytes_first": sizes[0],
        "checkpoint_bytes_last": sizes[-1],
        "metrics_bytes_per_step": round((run / "metrics.jsonl").stat().st_size / steps),
        "milliseconds_per_step": round(1e3 * median(pace), 2),
        "slowdown": _rise(pace),
        "slowdown_of_fixed_work": _rise([note["work"] for note in notes]),
    }


def _rise(values: list[float]) -> float:
    """Of the last tenth over the second tenth."""
    tenth = max(1, len(values) // 10)
    return round(median(values[-tenth:]) / median(values[tenth : 2 * tenth]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="steps of the run (default %(default)s)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        summary, sessions = soak(Path(folder), options.steps)
    record("soak", f"python benchmarks/soak.py --steps {options.steps}", summary, sessions=sessions)


if __name__ == "__main__":
    main()
