"""What the model does before training: its held-out losses and its answers, on file so that a resumed run has them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorate import ranks
from lorate.errors import LorateError
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.digests import is_as_signed, signed
from lorate.runs.reading import read_json
from lorate.training.evaluation import COLUMNS, Scores
from lorate.training.heldout import Evaluations
from lorate.training.listener import Listener
from lorate.training.preparation import Prepared
from lorate.training.processes import together
from lorate.training.samples import answers, sample_prompts


@dataclass(frozen=True)
class Untrained:
    """What the untrained adapter did.

    Attributes:
        scores: on the held-out examples.
        metric: the user's own; None without one.
        samples: prompts and answers, and an empty place for what the trained one says.
    """

    scores: Scores
    metric: float | None
    samples: list[dict[str, str]]


def untrained(
    run: RunDirectory, prepared: Prepared, evaluations: Evaluations, listener: Listener, is_new: bool
) -> Untrained:
    """What the untrained adapter does, which is in the model unless that is on file.

    Args:
        run: gets the file.
        prepared: data and model.
        evaluations: makes the evaluation, and records it if the run is new.
        listener: hears of the work.
        is_new: whether nothing was trained yet.
    """
    file, config = run.inside("before.json"), prepared.config
    saved = ranks.everyones(_read(file, evaluations.examples, listener))[0]
    if saved is not None:
        return Untrained(Scores(torch.tensor(saved[0], dtype=torch.float64), prepared.judged), saved[1], saved[2])
    listener.phase("Evaluating and sampling")
    scores, metric = evaluations.scores(), None
    if config.metric_command is not None:
        place = run.inside("untrained")
        with together():
            if ranks.is_main():
                prepared.model.save_pretrained(place, save_embedding_layers=False)
            metric = evaluations.metric(place)
    if is_new:
        evaluations.record(0, scores, metric)
    samples: list[dict[str, str]] = []
    if ranks.is_main():
        prompts = sample_prompts(prepared, config.samples, config.max_length)
        replies = answers(prepared, prompts)
        samples = [{"prompt": p, "before": reply, "after": ""} for p, reply in zip(prompts, replies, strict=True)]
        write_json(file, signed({"scores": _numbers(scores.table), "metric": metric, "samples": samples}))
    return Untrained(scores, metric, samples)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON for people, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _numbers(table: torch.Tensor) -> list[list[float | None]]:
    """What is not finite as None, which JSON can hold."""
    return [[number if math.isfinite(number) else None for number in row] for row in table.tolist()]


def _read(
    file: Path, examples: int, listener: Listener
) -> tuple[list[list[float]], float | None, list[dict[str, str]]] | None:
    """What is on file; None if it is missing or damaged, or does not have a row for each held-out example."""
    try:
        saved = read_json(file)
        scores = [[float("nan") if number is None else float(number) for number in row] for row in saved["scores"]]
        samples, metric = [dict(sample) for sample in saved["samples"]], saved["metric"]
        sound = len(scores) == examples and {len(row) for row in scores} == {COLUMNS} and is_as_signed(saved)
        sound &= all(isinstance(sample["prompt"] + sample["before"], str) for sample in samples)
        if sound:
            return scores, None if metric is None else float(metric), samples
    except FileNotFoundError:
        return None
    except (LorateError, OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        pass
    listener.notice(f"{file.name} is not as it was written, and is made again.")
    return None
