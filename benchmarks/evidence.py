"""The table of evidence in README.md, from what is committed in benchmarks/results.

Run: python benchmarks/evidence.py
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _record import RESULTS
from _regret.table import percent

from lorate.runs import write_atomically

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- evidence -->\n).*?(<!-- /evidence -->)", re.DOTALL)
TRAINERS = {
    "dpo": "DPO",
    "reward": "reward model",
    "kto": "KTO",
    "orpo": "ORPO",
    "grpo": "GRPO with 8 completions a prompt",
    "grpo-16": "with 16",
}


def table() -> str:
    """One row for each question, the answer in numbers, and the page or script behind it."""
    rows = ["| question | what was measured | more |", "|---|---|---|"]
    rows += [f"| {' | '.join(row)} |" for row in _rows()]
    return "\n".join(rows) + "\n"


def _rows() -> Iterator[tuple[str, str, str]]:
    regret, adapters, trainers = _summary("regret"), _summary("adapters"), _summary("trainers")
    yield (
        "Does `auto` keep up with a tuned learning rate?",
        f"{regret['settings']} settings, {_length('regret')} runs: held-out loss {percent(regret['median_regret'])} in "
        f"the median against the best of eight AdamW runs, {percent(regret['worst_regret'])} at worst; on settings "
        f"chosen before `auto` was run on them {percent(regret['judged_median_regret'])} in the median",
        "[auto](docs/auto.md#against-a-tuned-learning-rate)",
    )
    yield (
        "And with its rivals?",
        f"`auto` ends lower than Prodigy in {_share(regret['ahead_of_prodigy'])} of these runs, than "
        f"Prodigy + Schedule-Free in {_share(regret['ahead_of_prodigy_plus'])}, and than the best of eight "
        f"Schedule-Free runs in {_share(regret['ahead_of_schedule_free'])}",
        "[auto](docs/auto.md#against-a-tuned-learning-rate)",
    )
    yield (
        "Only LoRA?",
        f"{adapters['methods']} methods of PEFT on a small task: {percent(adapters['median_worse'])} in the median "
        f"against the best of eight AdamW runs, {percent(adapters['worst_worse'])} at worst",
        "[other adapters](docs/how-to/adapters.md)",
    )
    losses = ", ".join(
        f"{name} {percent(trainers[f'{key}_worse'])} ({percent(trainers[f'{key}_worst'])})"
        for key, name in TRAINERS.items()
    )
    yield (
        "In TRL's trainers?",
        f"{losses}, against the best of eight AdamW runs: mean of {trainers['dpo_seeds']} seeds (and the worst)",
        "[Trainer](docs/how-to/trainer.md)",
    )
    steps = _summary("steps")
    yield (
        "What does the theory gain?",
        f"`sharp` needs {100 * steps['steps_ratio_sharp']:.0f}%, `majorizer` "
        f"{100 * steps['steps_ratio_majorizer']:.0f}% of the steps of the paper's proved rule, on digits",
        "[benchmarks](docs/benchmarks.md)",
    )
    warning = _summary("early_warning")
    yield (
        "Does the monitor warn in time?",
        f"before {warning['warned before']} of {warning['diverging runs']} divergences; "
        f"{warning['false alarms']} false alarms in {warning['other runs']} sound runs",
        "[early warning](docs/how-to/early-warning.md)",
    )
    faults, fuzz = _summary("faults"), _summary("fuzz")
    yield (
        "What if something breaks?",
        f"{faults['survived']} of {faults['injected']} injected faults survived; "
        f"{fuzz['crashes']} crashes on {fuzz['inputs']:,} damaged inputs",
        "[promises](docs/promises.md)",
    )


def _share(part: float) -> str:
    return f"{100 * part:.0f}%"


def _read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def _summary(name: str) -> dict[str, Any]:
    return dict(_read(name)["summary"])


def _length(name: str) -> int:
    return len(_read(name)["rows"])


def main() -> None:
    """Write the table into README.md."""
    text, count = BLOCK.subn(lambda found: found[1] + table() + found[2], README.read_text(encoding="utf-8"))
    if not count:
        raise SystemExit(
            f"{README} has no <!-- evidence --> ... <!-- /evidence -->: put the two lines where it belongs."
        )
    write_atomically(README, text)


if __name__ == "__main__":
    main()
