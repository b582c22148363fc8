"""Rule ``auto`` in TRL's trainers with other constants, and how often it fails in GRPO.

The tasks of `benchmarks/trainers.py` with data seeds that it does not use. On seeds 1 to 10, where the constants of
``auto`` were chosen, DPO and the reward model run with one constant changed at a time; ``change`` is the held-out loss
over that of ``auto`` as it is, minus 1, a mean over the seeds with its standard error. GRPO, with 8 and with 16
completions a prompt, runs 25 times as it is; ``lowest`` is the least mean reward at the end, and a run has failed if
it ends below 0.6, half-way from the start to the best AdamW rate's reward.

Run: OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/auto_in_trainers.py
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from _record import record
from _rows import kept_rows
from trainers import COMPLETIONS, end

from lorate.rules.auto import control
from lorate_papers.training.measures import mean_and_error

COMMAND = "OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/auto_in_trainers.py"
AS_IT_IS = "as it is"
CHANGES: Mapping[str, Mapping[str, float]] = {
    AS_IT_IS: {},
    "first step × 3": {"FIRST_LENGTH": 3 * control.FIRST_LENGTH},
    "first step × 10": {"FIRST_LENGTH": 10 * control.FIRST_LENGTH},
    "limits ± 2": {"LIMIT": 2 * control.LIMIT, "LARGEST_GAIN": control.LARGEST_GAIN / 2},
}
"""With twice the limits half the gain: the way up begins as fast."""
LOSSES = ("dpo", "reward")
CHOSEN_ON, MORE = range(1, 11), range(31, 46)
FAILED = 0.6


def run(task: str, change: str, seed: int) -> dict[str, Any]:
    """One run of auto."""
    with ExitStack() as changed:
        for name, value in CHANGES[change].items():
            changed.enter_context(patch.object(control, name, value))
        return {"end": end(task, seed, None, attach=True)}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Changes of the losses by task and constant, and the failures of GRPO."""
    ends = {tuple(row["plan"]): row["end"] for row in rows}
    found: dict[str, float] = {}
    for task in LOSSES:
        for change in CHANGES:
            if change != AS_IT_IS:
                changes = [ends[task, change, seed] / ends[task, AS_IT_IS, seed] - 1 for seed in CHOSEN_ON]
                found[f"{task}, {change}: change"], found[f"{task}, {change}: error"] = mean_and_error(changes)
    for task in COMPLETIONS:
        rewards = [reward for (name, _, _), reward in ends.items() if name == task]
        found[f"{task}: runs"], found[f"{task}: lowest"] = len(rewards), min(rewards)
        found[f"{task}: failed"] = sum(reward < FAILED for reward in rewards)
    return found


def main() -> None:
    """Run and record."""
    plan = [(task, change, seed) for task in LOSSES for change in CHANGES for seed in CHOSEN_ON]
    plan += [(task, AS_IT_IS, seed) for task in COMPLETIONS for seed in (*CHOSEN_ON, *MORE)]
    record("auto_in_trainers", COMMAND, summary(kept_rows("auto_in_trainers", plan, run)), protocol=__doc__)


if __name__ == "__main__":
    main()
