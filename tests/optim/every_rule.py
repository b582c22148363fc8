"""A way to build an optimizer under any rule of `lorate.RULES`, read off what the rule says of itself."""

from typing import Any

from lorate.rules import RULES

L = 8.0
"""Above the smoothness of the small problems that use it."""

MINI_BATCH = [name for name, rule in RULES.items() if "closure" not in rule.needs]


def options(name: str) -> dict[str, Any]:
    """Arguments of `lorate.create_optimizer` beside the model.

    >>> options("theory")
    {'rule': 'theory', 'smoothness': 8.0}
    """
    return {"rule": name, **own_options(name)}


def own_options(name: str) -> dict[str, Any]:
    """The same without the name."""
    found: dict[str, Any] = {}
    if "smoothness" in RULES[name].needs:
        found["smoothness"] = L
    if RULES[name].default_lr is None:
        found["lr"] = 0.05
    return found
