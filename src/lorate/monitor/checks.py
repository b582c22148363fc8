"""The alarms' conditions: each a function of the run's history that returns an alarm or None.

A history holds the records of the steps that were taken, oldest first; see `lorate.monitor.History`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lorate.jsonl import Record
from lorate.monitor.alarm import Alarm
from lorate.monitor.history import History

WINDOW = 10
"""Steps over which the loss is averaged before it is compared."""

LOWER_LR = "Lower lr three- to ten-fold, or use a rule that adapts, such as adaptive-loss."
STEADY_AUTO = (
    "Go back to a checkpoint, and use larger batches or a smaller alpha. Rule auto makes up for another lr; "
    "halving the step at an alarm (on_alarm) does have an effect, since auto does not raise it again."
)


def skipped(record: Record) -> Alarm | None:
    """The step was not taken: something was not finite, or there was no step to take."""
    reason = record["skipped"]
    if reason is None:
        return None
    numbers = [record.get(name) for name in ("loss", "grad_norm", "weight_grad_norm")]
    if "overflow" in reason or not all(math.isfinite(number) for number in numbers if number is not None):
        return Alarm(
            "non-finite",
            f"Step {record['step']} was skipped: {reason}.",
            "Look at the batch of this step; if it happens often, lower lr, or train in bfloat16 or float32.",
        )
    return Alarm(
        "stalled",
        f"Step {record['step']} was not taken: {reason}.",
        "Stop: the run has gone as far as this direction and precision allow.",
    )


def not_finite(history: History) -> Alarm | None:
    """The last loss was not finite, and its step was taken, as torch's own optimizers do."""
    last = history.recent[-1] if history.recent else {"loss": None}
    if last["loss"] is None or math.isfinite(last["loss"]):
        return None
    return Alarm(
        "non-finite",
        f"The loss of step {last['step']} is {last['loss']}.",
        "Go back to a checkpoint, and lower lr; the weights are lost if their gradient was not finite either.",
    )


def diverging(history: History) -> Alarm | None:
    """The loss left its best level by more than its noise explains, or loss or adapters shot up at once.

    Averages over `WINDOW` steps are compared with the best such average so far. The rise must exceed a fifth of that
    level and five standard errors, the noise of one step being estimated from successive differences.
    """
    losses = _losses(history.last(200))
    first = history.first["loss"] if history.first else None
    if first is not None and len(losses) >= 3 and min(losses[-2:]) > 3 * abs(first) and losses[-1] > losses[0]:
        return _diverging(history, losses[-1], first)
    if (jump := _adapter_jump(history)) is not None:
        return jump
    if len(losses) < 2 * WINDOW:
        return None
    averages = np.convolve(losses, np.full(WINDOW, 1 / WINDOW), mode="valid")
    best = float(averages[:-WINDOW].min())
    noise = float(np.median(np.abs(np.diff(losses[:-WINDOW])))) / math.sqrt(2) / 0.6745
    rise = float(averages[-1]) - best
    if rise > max(0.2 * abs(best), 5 * noise * math.sqrt(2 / WINDOW)):
        return _diverging(history, float(averages[-1]), best)
    return None


def _diverging(history: History, now: float, before: float) -> Alarm:
    return Alarm("diverging", f"The loss rose to {now:.3g} from {before:.3g}.", _steadier(history))


def _steadier(history: History) -> str:
    return STEADY_AUTO if _steered_by_average(history.last(WINDOW)) else LOWER_LR


def _steered_by_average(records: Sequence[Record]) -> bool:
    """Whether these are steps of rule ``auto``."""
    return any(record.get("average_slope") is not None for record in records)


def _adapter_jump(history: History) -> Alarm | None:
    """One step made the adapters five times larger and the loss no smaller.

    The loss alone can hide this: behind a normalisation layer it stays finite whatever the adapters do.
    """
    if history.count < 2:
        return None
    before, now = history.last(2)
    if now["stacked_norm"] <= 5 * before["stacked_norm"] or None in (before["loss"], now["loss"]):
        return None
    if now["loss"] < before["loss"]:
        return None
    message = f"One step took the adapters' norm from {before['stacked_norm']:.3g} to {now['stacked_norm']:.3g}."
    return Alarm("diverging", message, _steadier(history))


def rising(history: History) -> Alarm | None:
    """Steps end uphill: on batches they have not seen their end slopes add up to twice the loss in ten moves.

    An early warning, before the loss itself has risen. The sum must also exceed two of its standard errors, estimated
    from successive differences. Runs with long steps that hover, and do not diverge, can raise it as well. Rule
    ``auto`` takes such steps on purpose: its average takes the hovering out, and it steers by the slope of that.
    """
    records = history.last(WINDOW)
    if _steered_by_average(records):
        return None
    slopes = [r["slope"] for r in records if r.get("slope") is not None]
    losses = _losses(records)
    if len(slopes) < WINDOW or not losses:
        return None
    total, noise = math.fsum(slopes), math.sqrt(float(np.sum(np.diff(slopes) ** 2)) / 2)
    level = abs(float(np.mean(losses)))
    if total <= max(2 * level, 2 * noise):
        return None
    return Alarm(
        "rising",
        f"On batches not seen before, the last {WINDOW} moves ended uphill: by their slopes the loss may have risen by "
        f"up to {total:.3g}, and it is {level:.3g}.",
        "Lower lr two- to three-fold, or warm up more slowly; if the loss goes on falling, leave it.",
    )


def stalled(history: History) -> Alarm | None:
    """The steps are too small to matter, though the gradient is not small.

    To first order a step lowers the loss by the step size times the squared gradient norm. If that adds up to less
    than a thousandth of the loss in 50 steps while the gradient has kept a fifth of its largest length, the rate is
    what holds the run back.
    """
    records = history.last(50)
    losses = _losses(records)
    if len(records) < 50 or not losses or history.first is None:
        return None
    promised = sum(r["eta"] * r["scaled_grad_norm"] ** 2 for r in records)
    gradient = float(np.median([r["scaled_grad_norm"] for r in records]))
    largest = max(r["scaled_grad_norm"] for r in [history.first, *history.recent])
    level = abs(float(np.mean(losses)))
    if promised < 1e-3 * level and gradient > 0.2 * largest:
        return Alarm(
            "stalled",
            f"The last 50 steps together can lower the loss by at most {promised / level:.1g} of its value.",
            "Raise lr: try ten times as much.",
        )
    return None


def stuck_at_origin(history: History) -> Alarm | None:
    """The adapters are so small that their gradients vanish: the origin is stationary for every loss.

    One factor is under a hundredth of the other (B starts at zero), or all are tiny, and the loss has not fallen by
    half a percent since the start.
    """
    if history.first is None or history.count < 20:
        return None
    last = history.recent[-1]
    small, large = sorted((last["a_norm"], last["b_norm"]))
    if large == 0 and last["scaled_grad_norm"] > 0:  # nothing here is a LoRA pair
        return None
    losses = _losses(history.last(WINDOW))
    if history.first["loss"] is None or not losses or (small > 0.01 * large and large > 0.1):
        return None
    fall = (history.first["loss"] - float(np.mean(losses))) / max(abs(history.first["loss"]), 1e-300)
    if fall > 0.005:
        return None
    return Alarm(
        "stuck-at-origin",
        f"After {last['step']} steps ‖A‖ = {last['a_norm']:.2g} and ‖B‖ = {last['b_norm']:.2g}, and the loss "
        "has not moved: near zero the gradient of the adapters vanishes.",
        "Raise lr or lora_alpha, or start with a larger A (as PEFT's default init does).",
    )


def growing(history: History) -> Alarm | None:
    r"""The adapters keep growing: over the second half of a long run $\|V\|^2$ follows the sum of step sizes.

    The exponent p of $\|V\|^2 \sim (\sum \eta)^p$ between the middle of the run and now is at least 0.3, and the norm
    has grown by a tenth since the middle and threefold since the start.
    """
    if history.first is None or history.count < 200:
        return None
    first, last = history.first, history.recent[-1]
    middle = history.near_step((first["step"] + last["step"]) / 2)
    growth = last["stacked_norm"] / max(middle["stacked_norm"], 1e-300)
    time = last["sum_eta"] / max(middle["sum_eta"], 1e-300)
    if growth < 1.1 or time <= 1 or last["stacked_norm"] < 3 * first["stacked_norm"]:
        return None
    exponent = 2 * math.log(growth) / math.log(time)
    if exponent < 0.3:
        return None
    return Alarm(
        "growing",
        f"The adapters' norm grew from {first['stacked_norm']:.3g} to {last['stacked_norm']:.3g} and does not settle "
        f"(‖V‖² ~ (Σ η)^{exponent:.2g}).",
        "Stop when the held-out loss no longer falls; weight decay or fewer steps keep adapters bounded.",
    )


CHECKS = (not_finite, diverging, rising, stuck_at_origin, stalled, growing)
"""Conditions on the history, in order of urgency."""


def _losses(records: Sequence[Record]) -> list[Any]:
    return [record["loss"] for record in records if record["loss"] is not None]
