"""How methods and settings are named for readers."""

from collections.abc import Mapping
from typing import Any

LABELS = {
    "auto": "auto",
    "schedule-free": "Schedule-Free, best of 8",
    "prodigy": "Prodigy",
    "d-adaptation": "D-Adaptation",
    "dog": "DoG",
    "prodigy-plus": "Prodigy + Schedule-Free",
    "adamw-formula": "AdamW, rate by formula",
    "adamw-habit": "AdamW at 2e-4",
}
"""What table and figure compare."""

SPLITS = {"develop": "made on", "judge": "judged on first, then made on", "judge-new": "judged on"}
"""What the settings are to ``auto``, in words."""


def suffix_of(name: str) -> str:
    """Ends the names of a method's numbers in the summary.

    >>> suffix_of("auto"), suffix_of("d-adaptation")
    ('', '_d_adaptation')
    """
    return "" if name == "auto" else f"_{name.replace('-', '_')}"


def label_of(row: Mapping[str, Any]) -> str:
    """The setting of a row of the results, with its length where the row tells it.

    >>> label_of({"setting": "small-lm,r4,a512,b2", "steps": 200, "examples": 96})
    'small-lm, r 4, α 512, batch 2, 200 steps on 96 examples'
    """
    workload, rank, alpha, batch = row["setting"].split(",")
    length = f", {row['steps']} steps" if "steps" in row else ""
    few = f" on {row['examples']} examples" if row.get("examples") is not None else ""
    return f"{workload}, r {rank[1:]}, α {alpha[1:]}, batch {batch[1:]}{length}{few}"
