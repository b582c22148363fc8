"""Convergence you can see: records, alarms."""

import importlib
from typing import TYPE_CHECKING, Any

from lorate.monitor.alarm import Alarm, OnAlarm

if TYPE_CHECKING:
    from lorate.monitor.history import History
    from lorate.monitor.monitor import Monitor

_PLACES = {"History": "history", "Monitor": "monitor"}

__all__ = ["Alarm", "History", "Monitor", "OnAlarm"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is used: ``lorate train --help`` does not."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
