r"""The certificate of a mini-batch run: how far the true loss has changed, from the slopes that unseen batches showed.

Nothing is assumed about the optimizer. Source: docs/mathematics/minibatch.md, Proposition 5.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lorate.monitor.certificate import Certificate, Line, line
from lorate.monitor.setting import Setting, is_number
from lorate.monitor.slopes import FIRST, SlopeSum

LEVEL = 0.95


def certify_mini_batch(setting: Setting, records: Sequence[dict[str, Any]]) -> Certificate:
    """The certificate; a pure function."""
    seen = [record for record in _since_last_hole(records) if is_number(record.get("slope"))]
    reason = _unfit(records, len(seen))
    if reason is not None:
        return Certificate.refused(reason)
    total = SlopeSum()
    for record in seen:
        total.add(record["slope"], record["moved_sq"] if is_number(record.get("moved_sq")) else 0.0)
    # a slope belongs to the move of the step before
    first, last = seen[0]["step"] - 1, seen[-1]["step"]
    return Certificate(
        [_change(total, first, last)],
        "",
        [f"the slope of each move from that of step {first} on was measured at its end, on the batch of the next step"],
        [
            "each batch was drawn independently from the data whose mean is the true loss: epochs that pass over the "
            "same data again estimate the training loss, and reshuffling makes them a little dependent",
            "gradients are those of the whole batch, not clipped or changed before the step",
            f"the loss of the adapters does not curve downwards along the moves; for each unit of such curvature add "
            f"{total.moved_sq / 2:.3g} to the estimate",
            "the slopes' scatter gives their error: there are many of them, without very heavy tails",
            "the files of the run were not edited",
        ],
        [
            "any single step, and any inequality of the full-batch theory",
            "that the loss is where the estimate puts it: the estimate is an upper bound, and grows while steps "
            "end uphill even if the loss hovers",
            "anything about held-out data, beyond what independent batches show",
        ],
    )


def _change(total: SlopeSum, first: int, last: int) -> Line:
    upper = total.upper(LEVEL)
    fell = upper < 0
    claim = (
        f"The true loss fell by at least {-upper:.3g} from before step {first} to before step {last}."
        if fell
        else f"The true loss rose by at most {upper:.3g} from before step {first} to before step {last}."
    )
    error = total.error(LEVEL)
    figures = f"Σ q = {total.total:.4g} over {total.count} moves, error {error:.3g}; {LEVEL:.0%}, at all times at once"
    return line(claim, figures, True, "statistical")


def _unfit(records: Sequence[dict[str, Any]], slopes: int) -> str | None:
    if slopes == 0:
        return (
            "the steps saw mini-batches, so that nothing is proved about single steps, and no slopes on unseen batches "
            "were recorded: let the gradients be there when optimizer.step() is called without a closure (a full-batch "
            "run is recorded with Monitor(..., full_batch=True))"
        )
    if slopes < FIRST:
        return f"the steps saw mini-batches; that needs {FIRST} slopes on unseen batches, and there are {slopes}"
    for before, record in pairwise(records):
        if record.get("step") != before.get("step", 0) + 1:
            return (
                f"the records jump from step {before.get('step')} to step {record.get('step')}: call "
                "monitor.update(optimizer) after every step"
            )
    return None


def _since_last_hole(records: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Where a run was resumed the move before was not seen from its end: the sum starts again at zero."""
    holes = [i for i, r in enumerate(records) if not is_number(r.get("slope")) and r.get("skipped") is None]
    return records[holes[-1] + 1 :] if holes else records
