"""Rule ``auto``: the rule, the feedback that it follows, and its probes."""

from lorate.rules.auto.rule import Auto

__all__ = ["Auto"]
