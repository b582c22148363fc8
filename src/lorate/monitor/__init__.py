"""Convergence you can see: records, alarms."""

from lorate.monitor.alarm import Alarm
from lorate.monitor.history import History
from lorate.monitor.monitor import Monitor

__all__ = ["Alarm", "History", "Monitor"]
