"""Which adapter of a run is kept: the one with the lowest held-out loss, not the last one.

The adapters lie in the run directory, a folder each: the best so far, and what was the best at each checkpoint, so that
a resumed run keeps the same one.
"""

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorate import ranks
from lorate.errors import LorateError
from lorate.extras import require
from lorate.monitor import Alarm
from lorate.runs.reading import read_json
from lorate.tasks import quiet
from lorate.training.checkpoints import checkpoints
from lorate.training.evaluation import paired_change

ENOUGH = 40
"""With this many held-out examples one half chooses the adapter, and the other half judges it."""

CLEAR = 2.0
"""A rise counts when it is larger than this many standard errors."""

LOSSES = "losses.json"


def halves(examples: int, keep: str) -> tuple[slice, slice]:
    """The examples that choose the adapter, and those that judge it: the same ones where there are few.

    >>> halves(64, "best"), halves(8, "best")
    ((slice(0, None, 2), slice(1, None, 2)), (slice(None, None, None), slice(None, None, None)))
    """
    if keep == "last" or examples < ENOUGH:
        return slice(None), slice(None)
    return slice(0, None, 2), slice(1, None, 2)


def overfitting(step: int, losses: Tensor, lowest_step: int, lowest: Tensor) -> Alarm | None:
    """The held-out loss has risen above its lowest by more than two standard errors of the paired difference.

    Args:
        step: now.
        losses: of the held-out examples now.
        lowest_step: where their mean was lowest.
        lowest: their losses then.
    """
    change = paired_change(lowest, losses)
    rise = change.after - change.before
    if not rise > CLEAR * change.standard_error:
        return None
    return Alarm(
        "overfitting",
        f"The held-out loss rose to {change.after:.4g} from {change.before:.4g} at step {lowest_step}, "
        f"{rise / change.standard_error if change.standard_error else float('inf'):.1f} standard errors.",
        "The run goes on and keeps its best adapter, see --keep. Next time: more data, fewer --epochs or a lower "
        "--rank; --patience 2 ends a run that gets no better.",
    )


class Selection:
    """The evaluations of a run so far, and the adapter of the best one.

    Args:
        folder: where the adapters lie.
        checkpoint_folder: the run's checkpoints: what was the best at each of them stays.
        model: the PEFT model.
        untrained: losses of the held-out examples before training.
        past: records of the evaluations so far, in order; see `Evaluations`.
        keep: ``best`` or ``last``.

    Attributes:
        missing: where the best adapter of a resumed run should lie and does not; None if all is well.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint_folder: Path,
        model: Any,
        untrained: Tensor,
        past: Iterable[Mapping[str, Any]],
        keep: str,
    ) -> None:
        self._folder, self._checkpoints, self._model, self._untrained = folder, checkpoint_folder, model, untrained
        self._chooses, _ = halves(len(untrained), keep)
        records = [r for r in past if isinstance(r.get("step"), int) and isinstance(r.get("choice"), int | float)]
        scores = [(r["step"], float(r["choice"])) for r in records]
        best = _lowest(scores)
        self.missing = None if best is None or self.place(best).is_dir() else self.place(best)
        self._past = [(step, score) for step, score in scores if self.missing is None or self.place(step).is_dir()]
        self._alarmed = max((record["step"] for record in records if record.get("alarms")), default=0)

    def place(self, step: int) -> Path:
        """Where the adapter of a step lies, if it was kept."""
        return self._folder / f"step-{step}"

    @property
    def best(self) -> int | None:
        """The step whose adapter is best so far; the first of several that are alike."""
        return _lowest(self._past)

    def scored(self, step: int) -> float:
        """The score of an evaluation."""
        return next(score for one, score in self._past if one == step)

    @property
    def waits(self) -> int:
        """How many evaluations there were since the best one."""
        return sum(step > (self.best or 0) for step, _ in self._past)

    def score(self, losses: Tensor, metric: float | None) -> float:
        """What the best adapter has the lowest of: the mean loss, or minus the metric where there is one."""
        return -metric if metric is not None else float(losses[self._chooses].mean())

    def save(self, step: int, losses: Tensor) -> None:
        """Write the adapter of now, whole or not at all."""
        if not ranks.is_main():
            return
        self._folder.mkdir(exist_ok=True)  # not its parents: a run that was deleted is not begun again
        fresh = self._folder / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        with quiet():
            self._model.save_pretrained(fresh, save_embedding_layers=False, selected_adapters=["default"])
        (fresh / LOSSES).write_text(json.dumps(losses.tolist()), encoding="utf-8")
        shutil.rmtree(self.place(step), ignore_errors=True)
        fresh.rename(self.place(step))

    def add(self, step: int, losses: Tensor, score: float) -> Alarm | None:
        """Take in an evaluation, whose adapter was saved; drop the adapters that nothing needs any more.

        Returns:
            The alarm that it raises, once after each best adapter.
        """
        if math.isfinite(score):  # an adapter whose losses are not is never the best one
            self._past.append((step, score))
        best = self.best
        if best is None:
            return None
        if ranks.is_main():
            needed = {best, *(_lowest(self._past, until) for until in self._kept_checkpoints())}
            for place in self._folder.glob("step-*"):
                if place.name not in {f"step-{one}" for one in needed}:
                    shutil.rmtree(place)
        lowest = self.losses(best) if best != step else losses
        start = (0, self._untrained)
        alarm = overfitting(step, losses, *(start if lowest.mean() > self._untrained.mean() else (best, lowest)))
        if alarm is None or self._alarmed > best:
            return None
        self._alarmed = step
        return alarm

    def losses(self, step: int) -> Tensor:
        """Losses of the held-out examples under a kept adapter.

        Raises:
            LorateError: its file is damaged.
        """
        file = self.place(step) / LOSSES
        found = None
        if ranks.is_main():
            with suppress(OSError, LorateError):
                found = read_json(file)
        found = ranks.everyones(found)[0]
        numbers = isinstance(found, list) and all(one is None or type(one) in (int, float) for one in found)
        if not numbers or len(found) != len(self._untrained):
            raise LorateError(f"{file} is damaged, so the best adapter is lost: train a new run.")
        return torch.tensor([math.nan if one is None else one for one in found], dtype=torch.float64)

    def restore(self, step: int) -> None:
        """Put a kept adapter into the model."""
        peft = require("peft", extra="hf")
        weights = peft.load_peft_weights(str(self.place(step)), str(next(self._model.parameters()).device))
        peft.set_peft_model_state_dict(self._model, weights)

    def _kept_checkpoints(self) -> Sequence[int]:
        return [checkpoint.step for checkpoint in checkpoints(self._checkpoints)]


def _lowest(past: Sequence[tuple[int, float]], until: float = float("inf")) -> int | None:
    return min(((score, step) for step, score in past if step <= until), default=(0.0, None))[1]
