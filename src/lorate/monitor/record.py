"""The line that the monitor writes for each step."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from lorate.optim import Step


def step_record(step: Step, *, samples: int, tokens: int, seconds: float) -> dict[str, Any]:
    r"""One step as plain numbers, ready for JSON.

    Keys: ``step``, ``loss``, ``eta``, ``lr`` (multiplier), ``stacked_norm`` $\|V\|$, ``a_norm``, ``b_norm``,
    ``grad_norm`` $\|\nabla J\|$, ``scaled_stacked_norm`` and ``scaled_grad_norm`` (each layer weighted with s and 1/s),
    ``weight_grad_norm`` $\|\nabla_W Loss\|$ or None, ``sum_eta``, ``samples``, ``tokens``, ``seconds``, ``skipped``,
    ``guarantee`` (proved decrease of a full-batch step, or None), ``standing`` (layers that did not move),
    ``smoothness`` (L in force where the rule finds it, or None), ``evaluations`` (of the closure),
    ``average_slope`` (what steers rule ``auto``, in units of its root mean square, else None). The monitor adds
    ``alarms``, what `lorate.monitor.observed.Observed.evidence` says, and
    ``change_bound``: at 95% the true loss has risen by at most this much since slopes were measured without a gap, by
    `lorate.monitor.slopes.SlopeSum`; None in full-batch runs and at first.

    Args:
        step: what the optimizer saw and did.
        samples: training samples seen so far.
        tokens: tokens seen so far, padding left out; 0 if the inputs are not text.
        seconds: wall time since the start.
    """
    m = step.measurement
    return {
        "step": step.number,
        "loss": m.loss,
        "eta": step.eta,
        "lr": step.lr,
        "stacked_norm": m.stacked_norm,
        "a_norm": float(np.sqrt(m.A_sq.sum())),
        "b_norm": float(np.sqrt(m.B_sq.sum())),
        "grad_norm": m.gradient_norm,
        "scaled_stacked_norm": m.scaled_stacked_norm,
        "scaled_grad_norm": m.scaled_gradient_norm,
        "weight_grad_norm": m.weight_gradient_norm,
        "sum_eta": step.sum_eta,
        "samples": samples,
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "skipped": step.skipped,
        "guarantee": step.guarantee,
        "standing": step.standing,
        "smoothness": step.smoothness,
        "evaluations": step.evaluations,
        "average_slope": step.average_slope,
    }


def is_complete(record: Mapping[str, Any]) -> bool:
    """Whether a record that was read back is that of a step, with all that the monitor goes on from."""
    alarms, skipped = record.get("alarms"), record.get("skipped", 0)
    return (
        type(record.get("step")) is int
        and record.keys() >= _NEEDED
        and all(_is_number(record[name]) for name in ("samples", "tokens", "seconds"))
        and all(record[name] is None or _is_number(record[name]) for name in _MEASURED)
        and all(record.get(name) is None or _is_number(record[name]) for name in _OF_SLOPES)
        and (record.get("slope") is None or record.get("moved_sq") is not None)
        and (skipped is None or isinstance(skipped, str))
        and isinstance(alarms, list)
        and all(isinstance(alarm, dict) and isinstance(alarm.get("kind"), str) for alarm in alarms)
    )


def has_all_numbers(record: Mapping[str, Any]) -> bool:
    """Whether a complete record lacks nothing that alarms look at; what was not finite is None."""
    return all(record[name] is not None for name in _MEASURED if name != "loss")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


_MEASURED = ("loss", "eta", "stacked_norm", "a_norm", "b_norm", "scaled_grad_norm", "sum_eta")
_OF_SLOPES = ("slope", "moved_sq")
_NEEDED = {*_MEASURED, "samples", "tokens", "seconds", "skipped", "alarms"}


def layer_record(step: Step) -> dict[str, Any]:
    """Norms of each layer at one step."""
    m = step.measurement
    return {
        "step": step.number,
        "a_norm": np.sqrt(m.A_sq).tolist(),
        "b_norm": np.sqrt(m.B_sq).tolist(),
        "grad_norm": np.sqrt(m.A_grad_sq + m.B_grad_sq).tolist(),
    }
